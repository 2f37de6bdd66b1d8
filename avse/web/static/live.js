// Live: microphone and camera to the server, speech back to the loudspeaker, with latency and reliability.
(() => {
  const BLOCK_SECONDS = 0.02, LEAD_SECONDS = 0.06, PICTURE_MS = 40, WIDTH = 480, JPEG_QUALITY = 0.85;
  const HISTORY = 250; // video frames that are drawn

  const message = (kind, head, body) => {
    const bytes = new Uint8Array(4 + head.byteLength + body.byteLength);
    bytes[0] = kind;
    bytes.set(new Uint8Array(head), 4);
    bytes.set(new Uint8Array(body), 4 + head.byteLength);
    return bytes;
  };

  const microphone = async (stream) => {
    try {
      const context = new AudioContext({ sampleRate: 16000, latencyHint: "interactive" });
      return [context, context.createMediaStreamSource(stream)];
    } catch { // a browser that does not resample the microphone
      const context = new AudioContext({ latencyHint: "interactive" });
      return [context, context.createMediaStreamSource(stream)];
    }
  };

  const run = async (root, show) => {
    const find = (name) => root.querySelector(`.avse-${name}`);
    const parts = [];
    const end = () => parts.splice(0).reverse().forEach((part) => part());
    try {
      const video = find("camera").checked && { width: 640, height: 480, frameRate: 25 };
      const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
      if (!navigator.mediaDevices) throw new Error("The browser gives camera and microphone to https and localhost only.");
      const stream = await navigator.mediaDevices.getUserMedia({ audio, video });
      parts.push(() => stream.getTracks().forEach((track) => track.stop()));
      const [context, source] = await microphone(stream);
      parts.push(() => context.close());
      await context.audioWorklet.addModule("avse/static/worklet.js");
      const address = new URL(`avse/live?rate=${context.sampleRate}`, location.href);
      address.protocol = address.protocol.replace("http", "ws");
      const socket = new WebSocket(address);
      socket.binaryType = "arraybuffer";
      parts.push(() => socket.close());
      const failed = (text) => { end(); show.ended(text); };
      let node, sent = 0;

      const begin = (latency) => {
        const size = Math.round(BLOCK_SECONDS * context.sampleRate);
        const delay = Math.round((latency + LEAD_SECONDS) * context.sampleRate);
        node = new AudioWorkletNode(context, "avse-duplex", { processorOptions: { size, delay }, outputChannelCount: [1] });
        const volume = context.createGain();
        const mute = () => { volume.gain.value = find("hear").checked ? 1 : 0; };
        mute();
        find("hear").addEventListener("change", mute);
        node.port.onmessage = ({ data }) => {
          if (socket.readyState !== WebSocket.OPEN) return;
          sent = data.heard;
          socket.send(message(0, new ArrayBuffer(0), data.block.buffer));
          show.latency(data.delay / context.sampleRate, data.late);
        };
        source.connect(node).connect(volume).connect(context.destination);
        parts.push(() => { node.port.onmessage = null; node.disconnect(); });
        if (video) film(stream);
        show.state("Live.");
      };

      const film = (shown) => {
        const self = find("self"), canvas = document.createElement("canvas");
        self.srcObject = shown;
        self.hidden = false;
        let busy = false;
        const timer = setInterval(() => {
          if (busy || !self.videoWidth || socket.readyState !== WebSocket.OPEN) return;
          busy = true;
          const at = new Float64Array([sent / context.sampleRate]);
          canvas.width = Math.min(WIDTH, self.videoWidth);
          canvas.height = Math.round((canvas.width * self.videoHeight) / self.videoWidth);
          canvas.getContext("2d").drawImage(self, 0, 0, canvas.width, canvas.height);
          canvas.toBlob(async (blob) => {
            busy = false;
            if (blob && socket.readyState === WebSocket.OPEN && socket.bufferedAmount < 1 << 20)
              socket.send(message(1, at.buffer, await blob.arrayBuffer()));
          }, "image/jpeg", JPEG_QUALITY);
        }, PICTURE_MS);
        parts.push(() => { clearInterval(timer); self.srcObject = null; self.hidden = true; });
      };

      socket.onmessage = ({ data }) => {
        if (data instanceof ArrayBuffer) return node.port.postMessage(new Float32Array(data));
        const told = JSON.parse(data);
        if (told.error) return failed(told.error);
        if (told.ready) return begin(told.latency);
        show.block(told, Boolean(video));
        if (told.report) { end(); show.ended(`Ended after ${told.report.seconds.toFixed(1)} s.`); }
      };
      socket.onclose = () => { if (parts.length) failed("The connection ended."); };
      return () => { // the rest of the speech comes first
        if (socket.readyState === WebSocket.OPEN && node) { node.port.onmessage = null; socket.send("end"); }
        else { end(); show.ended("Ended."); }
      };
    } catch (error) {
      end();
      show.ended(error.name === "NotAllowedError" ? "The browser did not allow microphone or camera." : error.message);
      return null;
    }
  };

  const setUp = (root) => {
    root.dataset.ready = "yes";
    const find = (name) => root.querySelector(`.avse-${name}`);
    const start = find("start"), canvas = find("history"), pen = canvas.getContext("2d");
    let stop = null, history = [], busy = [];
    const draw = () => {
      pen.clearRect(0, 0, canvas.width, canvas.height);
      pen.fillStyle = "#0072b2";
      history.forEach((value, i) => {
        const width = canvas.width / HISTORY;
        pen.fillRect((HISTORY - history.length + i) * width, canvas.height * (1 - value), width, canvas.height * value);
      });
    };
    const show = {
      state: (text) => { find("state").textContent = text; },
      latency: (seconds, late) => {
        find("latency").textContent = `${Math.round(1000 * seconds)} ms`;
        find("late").textContent = late;
      },
      block: (told, filmed) => {
        busy = [...busy, told.seconds].slice(-100);
        find("computing").textContent = `${((1000 * busy.reduce((a, b) => a + b, 0)) / busy.length).toFixed(1)} ms a block`;
        history = [...history, ...told.reliability].slice(-HISTORY);
        find("now").textContent = filmed && history.length ? history[history.length - 1].toFixed(2) : "no video";
        draw();
      },
      ended: (text) => { stop = null; start.textContent = "Start"; start.disabled = false; show.state(text); },
    };
    start.addEventListener("click", async () => {
      if (stop) { start.disabled = true; stop(); return; }
      start.disabled = true;
      history = [];
      show.state("Waiting for microphone and camera ...");
      stop = await run(root, show);
      start.disabled = false;
      if (stop) start.textContent = "Stop";
    });
  };

  const look = () => document.querySelectorAll(".avse-live:not([data-ready])").forEach(setUp);
  new MutationObserver(look).observe(document, { childList: true, subtree: true });
})();
