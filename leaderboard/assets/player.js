// Sounds in step, for the leaderboard's clips and for the page beside stems. They share one start on
// the audio clock; whether one is heard is a gain that is faded. `stemgmd` is the page's own object.
{
  const FADE_SEC = 0.01;

  /** The MP3 files of a clip, unpacked: base64, gzip, one after the other. */
  async function unpack(facts) {
    const packed = Uint8Array.from(atob(facts.audio), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const bytes = await new Response(stream).arrayBuffer();
    let end = 0;
    return facts.lengths.map((length) => bytes.slice(end, (end += length)));
  }

  stemgmd.Player = class {
    constructor(facts, changed) {
      Object.assign(this, { facts, changed, playing: false, loop: true, offset: 0, sound: facts.rows[0].cells[0], row: 0, column: 0 });
      this.voices = new Map();
      this.buffers = new Map();
      this.seconds = facts.seconds;
    }

    get position() {
      if (!this.playing) return this.offset;
      const passed = Math.max(0, this.context.currentTime - this.began);
      return this.loop ? passed % this.seconds : Math.min(passed, this.seconds);
    }

    async buffer(sound) {
      this.files ||= unpack(this.facts);
      if (!this.buffers.has(sound)) this.buffers.set(sound, this.files.then((files) => this.context.decodeAudioData(files[sound])));
      const buffer = await this.buffers.get(sound);
      // A decoder that keeps the coder's padding gives more; one that drops frames, the same less for all.
      this.seconds = Math.min(this.seconds, buffer.duration);
      return buffer;
    }

    async play() {
      this.context ||= new AudioContext();
      await this.context.resume();
      await Promise.all([...this.heard].map((sound) => this.buffer(sound)));
      if (this.playing) return;
      this.began = this.context.currentTime - this.offset;
      this.playing = true;
      await this.sounding();
      this.changed();
    }

    pause() {
      this.offset = this.position >= this.seconds ? 0 : this.position;
      this.playing = false;
      for (const voice of this.voices.values()) this.fade(voice, 0, true);
      this.voices.clear();
      this.changed();
    }

    async seek(seconds) {
      const again = this.playing;
      if (again) this.pause();
      this.offset = Math.min(Math.max(0, seconds), this.seconds - 0.01);
      if (again) await this.play();
      this.changed();
    }

    async select(row, column) {
      Object.assign(this, { row, column, sound: this.facts.rows[row].cells[column] });
      this.changed();
      if (this.playing) await this.sounding();
    }

    /** Sounds to be heard: here the chosen one, unless it is silence. */
    get heard() {
      return new Set(this.sound >= 0 ? [this.sound] : []);
    }

    /** Let the sounds to be heard join at the place where the others are. */
    async sounding() {
      const wanted = [...this.heard].filter((sound) => !this.voices.has(sound));
      const buffers = await Promise.all(wanted.map((sound) => this.buffer(sound)));
      if (!this.playing) return;
      const when = this.context.currentTime + 0.005;
      wanted.forEach((sound, i) => {
        if (this.voices.has(sound)) return; // another call was faster
        const gain = new GainNode(this.context, { gain: 0 });
        const source = new AudioBufferSourceNode(this.context, { buffer: buffers[i], loop: this.loop, loopEnd: this.seconds });
        source.connect(gain).connect(this.context.destination);
        source.start(when, Math.max(0, when - this.began) % this.seconds);
        this.voices.set(sound, { source, gain });
      });
      const heard = this.heard;
      for (const [other, voice] of this.voices) this.fade(voice, heard.has(other) ? 1 : 0);
    }

    fade({ source, gain }, level, last = false) {
      const now = this.context.currentTime;
      gain.gain.cancelScheduledValues(now);
      gain.gain.setValueAtTime(gain.gain.value, now);
      gain.gain.linearRampToValueAtTime(level, now + FADE_SEC);
      if (last) source.stop(now + 2 * FADE_SEC);
    }

    setLoop(loop) {
      this.offset = this.position;
      if (this.playing) this.began = this.context.currentTime - this.offset;
      this.loop = loop;
      for (const { source } of this.voices.values()) source.loop = loop;
    }
  };
}
