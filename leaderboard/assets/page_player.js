// Clips: a grid of spectrograms, mixture x references x systems, heard one at a time and in step.
{
  const { data, element } = stemgmd;
  const clips = new Map();
  let shown = null;

  /** Called by clips/<name>.js. */
  stemgmd.addClip = (name, facts) => clips.set(name, facts);

  function load(clip) {
    if (clips.has(clip.name)) return Promise.resolve(clips.get(clip.name));
    return new Promise((resolve, reject) => {
      const script = element("script", { src: clip.file, onload: () => resolve(clips.get(clip.name)), onerror: () => reject(new Error(`${clip.file} is missing beside this page`)) });
      document.head.append(script);
    });
  }

  const title = (row) => ({ mixture: "Mixture", reference: "True stems" })[row.kind] || stemgmd.system(row.id).name;

  /** Rows of a clip: mixture, references, then the systems that this page knows. */
  function rowsOf(facts) {
    return facts.rows.map((row, i) => ({ ...row, kind: ["mixture", "reference"][i] || "system" })).filter((row) => row.kind !== "system" || stemgmd.system(row.id));
  }

  function picture(facts, sound) {
    return sound < 0 ? "silent" : element("img", { src: facts.images[sound], alt: "" });
  }

  function show(facts, clip) {
    const rows = rowsOf(facts);
    const player = new stemgmd.Player({ ...facts, rows }, () => update());
    const now = element("span", { class: "now", "aria-live": "polite" });
    const time = element("span", { class: "time" });
    const toggle = element("button", { type: "button", class: "play", onclick: () => (player.playing ? player.pause() : player.play().catch(fail)) }, "Play");
    const loop = element("input", { type: "checkbox", onchange: (event) => player.setLoop(event.target.checked) });
    loop.checked = true;
    const large = element("div", { class: "view" });
    large.addEventListener("click", (event) => {
      const box = large.getBoundingClientRect();
      player.seek(((event.clientX - box.left) / box.width) * player.seconds).catch(fail);
    });
    const seek = element("input", { type: "range", class: "seek", min: 0, max: facts.seconds, step: 0.05, "aria-label": "Position in seconds", oninput: () => player.seek(Number(seek.value)).catch(fail) });
    const grid = element("div", { class: "sounds", onkeydown: move },
      element("span", { class: "corner" }), data.stems.map((stem) => element("span", { class: "column" }, stem.id)),
      rows.map((row, r) => [element("span", { class: `row ${row.kind === "system" ? stemgmd.system(row.id).group : ""}` }, title(row)),
        row.cells.map((sound, c) => element("button", { type: "button", class: row.kind === "mixture" ? "cell wide" : "cell", "data-row": r, "data-column": c,
          "aria-label": `${title(row)}${row.kind === "mixture" ? "" : ", " + data.stems[c].id}`, onclick: () => player.select(r, c).catch(fail) },
          picture(facts, sound), element("span", { class: "cursor" })))]));
    const note = element("p", { class: "caption" }, `${facts.seconds.toFixed(1)} s, MP3 at a variable rate (${facts.kbps} kbit/s on average), everything raised by ${facts.gain_db} dB; click a picture to hear it while the clip goes on, click the large one to go to a place. ` +
      `Spectrograms: ${Math.round(facts.hz[0])} Hz to ${Math.round(facts.hz[1] / 1000)} kHz, level per Hz, one colour scale for the whole clip, ${facts.range_db} dB deep below the loudest of mixture and true stems. “Silent”: exact digital silence.`);
    const root = element("div", { class: "player" }, element("h3", {}, clip.title), element("div", { class: "transport" }, toggle, element("label", {}, loop, " loop"), now, time), large, seek, grid, note);

    function fail(error) { note.textContent = `This clip cannot be played: ${error.message}`; }

    function move(event) {
      const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      if (!step) return;
      event.preventDefault();
      const row = Math.min(rows.length - 1, Math.max(0, player.row + step[0]));
      const column = Math.min(rows[row].cells.length - 1, Math.max(0, player.column + step[1]));
      grid.querySelector(`[data-row="${row}"][data-column="${column}"]`).focus();
      player.select(row, column).catch(fail);
    }

    function update() {
      toggle.textContent = player.playing ? "Pause" : "Play";
      const row = rows[player.row];
      now.textContent = title(row) + (row.kind === "mixture" ? "" : ` · ${data.stems[player.column].id}`);
      for (const cell of grid.querySelectorAll(".cell")) cell.setAttribute("aria-pressed", Number(cell.dataset.row) === player.row && Number(cell.dataset.column) === player.column);
      const marks = [100, 1000, 10000].map((hz) => element("span", { class: "hz", style: `bottom:${(100 * Math.log(hz / facts.hz[0])) / Math.log(facts.hz[1] / facts.hz[0])}%` }, hz < 1000 ? `${hz} Hz` : `${hz / 1000} kHz`));
      large.replaceChildren(picture(facts, player.sound), ...marks, element("span", { class: "cursor" }));
      tick();
    }

    function tick() {
      cancelAnimationFrame(player.frame);
      if (player.playing && !player.loop && player.position >= player.seconds) player.pause();
      root.style.setProperty("--position", player.position / facts.seconds);
      time.textContent = `${player.position.toFixed(1)} / ${facts.seconds.toFixed(1)} s`;
      if (document.activeElement !== seek) seek.value = player.position;
      if (player.playing && root.isConnected) player.frame = requestAnimationFrame(tick);
    }

    update();
    return { root, player };
  }

  async function open(clip, box, buttons) {
    if (shown && shown.player.playing) shown.player.pause();
    buttons.forEach((button) => button.setAttribute("aria-pressed", button.dataset.clip === clip.name));
    try {
      const facts = await load(clip);
      shown = show(facts, clip);
      stemgmd.player = shown.player;
      box.replaceChildren(shown.root);
    } catch (error) {
      box.replaceChildren(element("p", {}, error.message));
    }
  }

  stemgmd.drawClips = function () {
    if (!data.clips.length) return document.getElementById("listen").remove();
    const box = element("div", {});
    const buttons = data.clips.map((clip) => element("button", { type: "button", "data-clip": clip.name, "aria-pressed": "false", onclick: () => open(clip, box, buttons) }, clip.title));
    document.getElementById("clips").replaceChildren(element("div", { class: "clip-list", role: "group", "aria-label": "Clips" }, buttons), box);
  };
}
stemgmd.start();
