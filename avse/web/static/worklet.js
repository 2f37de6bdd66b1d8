// Takes the microphone in blocks and plays speech a fixed delay later; the delay grows where speech came too late.
class Duplex extends AudioWorkletProcessor {
  constructor({ processorOptions: { size, delay } }) {
    super();
    this.block = new Float32Array(size);
    this.filled = 0;
    this.speech = new Float32Array(1 << 19);
    this.ready = 0; // samples of speech that came
    this.heard = 0; // samples of audio that were taken
    this.delay = delay;
    this.late = 0;
    this.port.onmessage = ({ data }) => {
      for (const sample of data) this.speech[this.ready++ % this.speech.length] = sample;
    };
  }

  process([[audio]], [[played]]) {
    let missed = false;
    for (let i = 0; i < played.length; i++) {
      const at = this.heard - this.delay;
      if (at >= this.ready) missed = true;
      else if (at >= 0) played[i] = this.speech[at % this.speech.length];
      this.block[this.filled++] = audio ? audio[i] : 0;
      this.heard++;
      if (this.filled === this.block.length) {
        this.port.postMessage({ block: this.block.slice(), heard: this.heard, delay: this.delay, late: this.late });
        this.filled = 0;
      }
    }
    if (missed) {
      this.late++;
      this.delay = Math.min(this.delay + played.length, 2 * sampleRate);
    }
    return true;
  }
}
registerProcessor("avse-duplex", Duplex);
