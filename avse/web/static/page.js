// Results: players in step, of which one is heard; the reliability, the face and the position in time.
(() => {
  const COLOURS = { reliability: "#0072b2", audio_reliability: "#d55e00" };

  const path = (values) => {
    const step = Math.max(1, Math.ceil(values.length / 1000)); // as many points as the curve is wide
    let line = "";
    for (let i = 0; i < values.length; i += step) {
      const part = values.slice(i, i + step);
      const mean = part.reduce((sum, value) => sum + value, 0) / part.length;
      line += `${line ? "L" : "M"}${((i + step / 2) / values.length) * 1000} ${98 - 96 * mean}`;
    }
    return line;
  };

  const draw = (curve, report) => {
    let shapes = "";
    for (const [name, colour] of Object.entries(COLOURS)) {
      if (report[name] && report[name].length)
        shapes += `<path d="${path(report[name])}" fill="none" stroke="${colour}" stroke-width="2" vector-effect="non-scaling-stroke"/>`;
    }
    curve.innerHTML = `${shapes}<line class="avse-now-line" x1="0" x2="0" y1="0" y2="100" vector-effect="non-scaling-stroke"/>`;
  };

  const setUp = (root) => {
    root.dataset.ready = "yes";
    const find = (selector) => [...root.querySelectorAll(selector)];
    const players = find("[data-player]");
    const all = [...players, ...find("[data-mouth]")];
    const listens = find(".avse-listen");
    const [play] = find(".avse-play"), [seek] = find(".avse-seek"), [clock] = find(".avse-clock");
    const curves = find(".avse-curve"), heads = find(".avse-head"), boxes = find(".avse-box");
    let heard = players[0], faces = [], rate = 25;

    const seconds = () => heard.duration || 1;
    const listen = (number) => {
      const at = heard.currentTime;
      heard = players[number];
      if (Math.abs(heard.currentTime - at) > 0.04) heard.currentTime = at;
      players.forEach((player, place) => {
        player.muted = place !== number;
        listens[place].setAttribute("aria-pressed", String(place === number));
        player.closest("figure").classList.toggle("avse-heard", place === number);
      });
    };
    const go = (at) => {
      all.forEach((player) => { player.currentTime = Math.min(at, (player.duration || at) - 0.01); });
      show();
    };
    const align = () =>
      all.forEach((player) => {
        if (player !== heard && Math.abs(player.currentTime - heard.currentTime) > 0.1 && !player.seeking)
          player.currentTime = heard.currentTime;
      });
    const show = () => {
      const at = heard.currentTime;
      seek.max = seconds();
      seek.value = at;
      clock.value = `${Math.floor(at / 60)}:${(at % 60).toFixed(1).padStart(4, "0")}`;
      curves.forEach((curve) => {
        const line = curve.querySelector(".avse-now-line");
        if (line) line.setAttribute("transform", `translate(${(1000 * at) / seconds()} 0)`);
      });
      heads.forEach((head) => {
        const left = Number(head.dataset.left), right = Number(head.dataset.right);
        const share = at / Math.min(seconds(), Number(head.dataset.seconds));
        head.hidden = share > 1;
        head.style.left = `${100 * (left + (right - left) * share)}%`;
      });
      const box = faces[Math.min(Math.floor(at * rate), faces.length - 1)];
      boxes.forEach((frame) => {
        frame.hidden = !box;
        if (box) ["left", "top", "width", "height"].forEach((side, i) => { frame.style[side] = `${100 * box[i]}%`; });
      });
    };
    const stop = () => {
      all.forEach((player) => {
        player.pause();
        if (player !== heard) player.currentTime = heard.currentTime;
      });
      play.textContent = "Play";
    };
    const tick = () => {
      if (heard.ended) return stop();
      if (heard.paused) return;
      align();
      show();
      requestAnimationFrame(tick);
    };
    play.addEventListener("click", () => {
      if (!heard.paused) return stop();
      document.querySelectorAll(".avse-result video, .avse-result audio").forEach((other) => other.pause());
      if (heard.ended) go(0);
      align();
      all.forEach((player) => player.play());
      play.textContent = "Pause";
      requestAnimationFrame(tick);
    });
    players.forEach((player) => player.addEventListener("pause", () => { if (player === heard) play.textContent = "Play"; }));
    seek.addEventListener("input", () => go(Number(seek.value)));
    listens.forEach((button, number) => button.addEventListener("click", () => listen(number)));
    players.forEach((player, number) => player.addEventListener("click", () => listen(number)));
    players.forEach((player) => player.addEventListener("loadedmetadata", show));
    curves.forEach((curve) =>
      curve.addEventListener("click", (event) => {
        const area = curve.getBoundingClientRect();
        go(((event.clientX - area.left) / area.width) * seconds());
      })
    );
    heads.forEach((head) =>
      head.parentElement.addEventListener("click", (event) => {
        const area = head.parentElement.getBoundingClientRect();
        const left = Number(head.dataset.left), right = Number(head.dataset.right);
        const share = ((event.clientX - area.left) / area.width - left) / (right - left);
        if (share >= 0 && share <= 1) go(share * Math.min(seconds(), Number(head.dataset.seconds)));
      })
    );
    listen(players.length === 1 || players[0].closest(".avse-row") ? 0 : 1);
    fetch(root.dataset.report).then((answer) => answer.json()).then((report) => {
      const whole = Array.isArray(report) ? report[0] : report;
      faces = whole.boxes || [];
      rate = whole.frame_rate || rate;
      const speakers = whole.speakers || whole.talkers || [whole];
      curves.forEach((curve) => {
        const speaker = speakers[Number(curve.dataset.speaker)];
        if (speaker) draw(curve, speaker);
        else curve.remove();
      });
      find(".avse-audio").forEach((text) => { text.hidden = !whole.audio_reliability; });
      show();
    });
  };

  const look = () => document.querySelectorAll(".avse-result:not([data-ready])").forEach(setUp);
  new MutationObserver(look).observe(document, { childList: true, subtree: true });
})();
