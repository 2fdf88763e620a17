"use strict";
// The body of a function that Gradio calls once a roll, with `element`, `trigger`, `props` and `watch`.

const GUTTER = 38, KEYS = 10, RULER = 24; // pixels
const LEAST_BAR = 24, MOST_SCALE = 600, STEP = 1.5; // pixels a bar, pixels a second, factor of a zoom
const DRUMS = 128, COLUMNS = 6, GUESSED_BAR = 2, SAME = 0.005; // seconds
const BLACK = [1, 3, 6, 8, 10];

const part = (name) => element.querySelector(`.roll-${name}`);
const root = element.querySelector(".roll");
const [scroller, extent, frame, ruler, sheet] = ["scroller", "extent", "frame", "ruler", "notes"].map(part);
const audio = root.querySelector("audio");
const gone = new AbortController();
const calm = matchMedia("(prefers-reduced-motion: reduce)");

const NOTHING = {
  title: "", count: 0, start: [], end: [], pitch: [], velocity: [], program: [], layer: [], longest: 0, programs: [],
  drums: [], lines: [0], written: 0, expected: 0, seconds: 0, end_s: 1, done: true, audio: null,
  playsFrom: null, empty: true,
};
let music = NOTHING;
let span = { low: 48, high: 84 };
let colourOf = new Map();
let scale = 0, zoomed = false, width = 0;
let chosen = null; // {anchor, focus}: bars from 0
let instrument = null;
let told = "null", telling = 0;
let cursor = 0;
let loop = false, broken = false;
let ready = false; // whether the audio stands where the cursor does
let drag = null;
let frameRequest = 0;
let announced = 0, announcement = 0, lastWritten = 0;

// ---- what is shown

function read(value) {
  if (!value) return NOTHING;
  const flat = JSON.parse(`[${value.notes}]`);
  const count = flat.length / COLUMNS;
  const order = [...Array(count).keys()].sort((a, b) => flat[a * COLUMNS] - flat[b * COLUMNS]);
  const column = (kind, at) => kind.from(order, (row) => flat[row * COLUMNS + at]);
  const start = column(Float64Array, 0), lasts = column(Float64Array, 1);
  const pitch = column(Uint8Array, 2), program = column(Uint8Array, 4);
  const bars = value.bars.length > 1 ? value.bars : [value.bars[0] || 0];
  const lines = [...bars];
  const written = bars.length - 1;
  const expected = value.done ? written : Math.max(value.expected_bars || 0, written);
  const length = written ? (bars[written] - bars[0]) / written : GUESSED_BAR;
  while (lines.length <= expected) lines.push(lines[lines.length - 1] + length);
  const seconds = value.seconds || 0;
  return {
    title: value.title, count, start, end: start.map((at, note) => at + lasts[note]), pitch,
    velocity: column(Uint8Array, 3), program, layer: column(Uint8Array, 5),
    longest: lasts.reduce((most, one) => Math.max(most, one), 0), programs: ranked(program),
    drums: [...new Set(pitch.filter((_, note) => program[note] === DRUMS))].sort((a, b) => a - b),
    lines, written, expected, seconds, end_s: Math.max(lines[lines.length - 1], seconds, 1),
    done: value.done, audio: value.audio, playsFrom: value.plays_from ?? null, empty: false,
  };
}

/** The programs, those with most notes first, as in the pictures. */
function ranked(program) {
  const counts = new Map();
  for (const one of program) counts.set(one, (counts.get(one) || 0) + 1);
  const drumsLast = (a, b) => (a === DRUMS) - (b === DRUMS);
  return [...counts.keys()].sort((a, b) => drumsLast(a, b) || counts.get(b) - counts.get(a) || a - b);
}

function continues(before, after) {
  const both = Math.min(before.written, after.written);
  return !before.empty && !after.empty
    && before.lines.slice(0, both + 1).every((line, bar) => Math.abs(line - after.lines[bar]) < SAME);
}

function show() {
  const before = music;
  music = read(props.value);
  const same = continues(before, music);
  if (!same) {
    stop();
    [chosen, instrument, zoomed, cursor] = [null, null, false, 0];
    scroller.scrollLeft = 0;
  }
  chooseColours(same);
  chooseSpan(same && !music.done);
  const audible = setAudio();
  keepSelection();
  writeTexts();
  buildLegend();
  announce(before, same);
  layOut();
  if (audible && music.playsFrom !== null) begin(music.playsFrom);
}

function chooseColours(same) {
  if (!same) colourOf = new Map();
  const pitched = music.programs.filter((program) => program !== DRUMS);
  for (const program of pitched) {
    if (!colourOf.has(program)) colourOf.set(program, props.palette[colourOf.size % props.palette.length]);
  }
}

function colour(program) {
  return shade(program === DRUMS ? props.drum_colour : colourOf.get(program));
}

/** Whole octaves around what is played, two at least; while music grows they only widen. */
function chooseSpan(widen) {
  let [low, high] = widen ? [span.low, span.high] : [128, -1];
  for (let note = 0; note < music.count; note++) {
    if (music.program[note] === DRUMS) continue;
    low = Math.min(low, music.pitch[note]);
    high = Math.max(high, music.pitch[note] + 1);
  }
  if (high < 0) [low, high] = [48, 84];
  low = Math.floor(low / 12) * 12;
  high = Math.ceil(high / 12) * 12;
  if (high - low < 24) low > 24 ? (low -= 12) : (high += 12);
  span = { low, high };
}

function bars(first, last) {
  return first === last ? `Bar ${first}` : `Bars ${first}–${last}`;
}

function plural(count, word) {
  return `${count} ${word}${count === 1 ? "" : "s"}`;
}

function listed(words) {
  return words.length > 1 ? `${words.slice(0, -1).join(", ")} and ${words[words.length - 1]}` : words.join("");
}

function nameOf(program) {
  return props.names[program] || `Program ${program}`;
}

function heading() {
  return music.title || props.label || "Music";
}

function writeTexts() {
  part("title").textContent = part("title").title = heading();
  const played = music.programs.length ? `, played by ${listed(music.programs.map(nameOf))}` : "";
  const counted = `${plural(music.count, "note")} in ${plural(music.written, "bar")}${played}`;
  scroller.setAttribute("aria-label", music.empty ? `${heading()}: nothing yet` : `${heading()}: ${counted}`);
  part("help").textContent = "Space plays or pauses, Home goes to the start, left and right move by a bar."
    + (props.selectable ? " Shift with left or right selects bars, Escape clears the selection." : "");
  root.dataset.empty = music.empty ? "yes" : "no";
  root.dataset.selectable = props.selectable ? "yes" : "no";
  part("empty").style.display = music.count ? "none" : "flex";
  part("empty").textContent = music.empty ? "No music yet" : music.done ? "No notes" : "";
  part("hint").textContent = hint();
  writeSelection();
}

function hint() {
  if (music.empty) return "";
  const of = music.expected > music.written ? ` of ${music.expected}` : "";
  const writing = music.done ? "" : `Writing bar ${Math.min(music.written + 1, music.expected || Infinity)}${of}…`;
  const sound = broken ? "The audio cannot be played." : music.audio ? "" : "Audio is coming.";
  return [writing, sound].filter(Boolean).join(" ");
}

/** Says how far the writing is, at most once a second. */
function announce(before, same) {
  if (music.empty || (before.empty && music.done)) return;
  if (same && music.written === lastWritten && before.done === music.done) return;
  lastWritten = music.written;
  if (announcement) return;
  const say = () => {
    announcement = 0;
    announced = performance.now();
    if (music.empty) return;
    part("live").textContent = music.done
      ? `${plural(music.written, "bar")}, ${plural(music.count, "note")}: finished`
      : music.written ? `Bar ${music.written} written` : "Writing";
  };
  announcement = setTimeout(say, Math.max(0, announced + 1000 - performance.now()));
}

// ---- legend

function buildLegend() {
  const key = JSON.stringify([music.programs, [...new Set(music.layer)].sort(), props.selectable]);
  const legend = part("legend");
  if (legend.dataset.key !== key) {
    legend.dataset.key = key;
    const choices = props.selectable && music.programs.length ? [null, ...music.programs] : music.programs;
    legend.replaceChildren(...choices.map(chip), ...layerKeys());
  }
  paintLegend();
}

function chip(program) {
  const made = document.createElement(props.selectable ? "button" : "span");
  made.className = "roll-chip";
  made.dataset.program = program === null ? "all" : program;
  if (props.selectable) {
    made.type = "button";
    made.addEventListener("click", () => chooseInstrument(program));
  }
  if (program === null) made.append("All instruments");
  else made.append(swatch(), nameOf(program));
  return made;
}

function swatch() {
  const made = document.createElement("span");
  made.className = "roll-swatch";
  return made;
}

function layerKeys() {
  const layers = new Set(music.layer);
  const words = [[1, "strong: newly written"], [2, "outlined: replaced"]];
  return words.filter(([layer]) => layers.has(layer)).map(([layer, text]) => {
    const made = document.createElement("span");
    made.className = "roll-chip roll-key";
    made.dataset.layer = layer;
    made.append(swatch(), text);
    return made;
  });
}

function paintLegend() {
  for (const made of part("legend").querySelectorAll("[data-program]")) {
    const program = made.dataset.program === "all" ? null : Number(made.dataset.program);
    if (program !== null) made.firstChild.style.background = colour(program);
    if (props.selectable) made.setAttribute("aria-pressed", String(program === instrument));
  }
}

/** The colour itself on a light ground, a lighter one on a dark. */
function shade(plain) {
  if (!element.closest(".dark")) return plain;
  return `color-mix(in srgb, ${plain} ${plain === props.drum_colour ? 50 : 72}%, white)`;
}

// ---- selection

function selection() {
  if (!chosen) return null;
  return { from: Math.min(chosen.anchor, chosen.focus), to: Math.max(chosen.anchor, chosen.focus) };
}

function keepSelection() {
  const range = selection();
  if (!props.selectable || (range && range.to >= music.written)) [chosen, instrument] = [null, null];
  if (music.done && instrument !== null && !music.programs.includes(instrument)) instrument = null;
  tell();
}

function chooseInstrument(program) {
  instrument = program;
  if (!chosen && music.written) chosen = { anchor: 0, focus: music.written - 1 };
  changed();
}

/** Once a key rests: one that is held would ask Python at every repetition. */
function changedByKey() {
  clearTimeout(telling);
  telling = setTimeout(tell, 120);
  showSelection();
}

function clear() {
  [chosen, instrument] = [null, null];
  changed();
}

function extend(step) {
  if (!music.written) return;
  if (!chosen) {
    const bar = Math.min(barAt(position()), music.written - 1);
    chosen = { anchor: bar, focus: bar };
  } else {
    chosen.focus = Math.min(Math.max(chosen.focus + step, 0), music.written - 1);
  }
  reveal(music.lines[chosen.focus], music.lines[chosen.focus + 1]);
  changedByKey();
}

function changed() {
  tell();
  showSelection();
}

function showSelection() {
  writeSelection();
  paintLegend();
  redraw();
}

function tell() {
  clearTimeout(telling);
  const range = selection();
  const value = range && { from_bar: range.from + 1, to_bar: range.to + 1, instrument };
  const text = JSON.stringify(value);
  if (text === told) return;
  told = text;
  trigger("select", { index: range && [range.from, range.to], value, selected: value !== null });
}

function writeSelection() {
  const range = selection();
  const who = instrument === null ? "all instruments" : nameOf(instrument);
  const offer = props.selectable && music.written ? "Drag over bars to select them." : "";
  part("range").textContent = range ? `${bars(range.from + 1, range.to + 1)}, ${who}` : offer;
  part("range").style.fontWeight = range ? "" : "400";
  part("clear").hidden = !range;
  part("loop").title = range ? "Loop the selection" : "Loop";
  audio.loop = loop && !range;
}

// ---- time and place

function layOut() {
  width = scroller.clientWidth;
  if (!width) return;
  const left = scale ? scroller.scrollLeft / scale : 0;
  const fit = (width - GUTTER - 1) / music.end_s;
  const bar = music.end_s / Math.max(music.lines.length - 1, 1);
  const least = Math.max(fit, LEAST_BAR / bar);
  scale = zoomed ? Math.min(Math.max(scale, fit), Math.max(MOST_SCALE, fit)) : least;
  extent.style.width = `${Math.max(width, Math.floor(GUTTER + music.end_s * scale))}px`;
  frame.style.width = `${width}px`;
  scroller.scrollLeft = Math.round(left * scale);
  part("wider").disabled = music.empty || scale >= MOST_SCALE;
  part("loop").disabled = music.empty;
  part("narrower").disabled = music.empty || scale <= fit * 1.001;
  redraw();
}

function zoom(factor, at) {
  if (!width) return;
  const x = at === undefined ? GUTTER + (width - GUTTER) / 2 : Math.max(at, GUTTER);
  const time = (x - GUTTER + scroller.scrollLeft) / scale;
  scale *= factor;
  zoomed = true;
  layOut();
  scroller.scrollLeft = time * scale - (x - GUTTER);
}

function timeAt(clientX) {
  const x = clientX - frame.getBoundingClientRect().left;
  return Math.min(Math.max((x - GUTTER + scroller.scrollLeft) / scale, 0), music.end_s);
}

function barAt(time) {
  let bar = 0;
  while (bar + 2 < music.lines.length && music.lines[bar + 1] <= time + 1e-6) bar++;
  return bar;
}

function place(time) {
  return GUTTER + time * scale - scroller.scrollLeft;
}

function reveal(from, to) {
  if (place(to) > width) scroller.scrollLeft += place(to) - width + 8;
  if (place(from) < GUTTER) scroller.scrollLeft -= GUTTER - place(from) + 8;
}

// ---- playback

/** Whether there is other audio than before. */
function setAudio() {
  const wanted = allowed(music.audio) ? music.audio : null;
  const other = wanted !== (audio.getAttribute("src") || null);
  if (!music.audio) broken = false;
  if (other) {
    const playing = !audio.paused;
    broken = ready = false;
    if (wanted) audio.setAttribute("src", wanted);
    else audio.removeAttribute("src");
    audio.load();
    if (playing && wanted) play();
  }
  broken = broken || Boolean(music.audio && !wanted);
  part("play").disabled = !wanted;
  part("play").title = wanted ? "" : hint() || "No music yet";
  writePlaying();
  return other && wanted !== null;
}

/** Only what comes with the page's own server: a title or file from elsewhere must not make the browser call out. */
function allowed(address) {
  if (!address) return false;
  const url = new URL(address, document.baseURI);
  return url.protocol === "blob:" || (url.protocol === "data:" && /^data:audio\//i.test(address))
    || url.origin === location.origin;
}

function position() {
  return audio.paused || !ready || audio.seeking ? cursor : audio.currentTime;
}

function seek(time) {
  cursor = Math.min(Math.max(time, 0), music.end_s);
  if (ready) audio.currentTime = cursor;
  movePlayhead();
}

/** All that can play on the page, also what Gradio puts in a shadow. */
function players(within = document) {
  return [...within.querySelectorAll("*")].flatMap((one) =>
    one instanceof HTMLMediaElement ? [one] : one.shadowRoot ? players(one.shadowRoot) : []);
}

/** Plays unasked, where it is seen and nothing else plays. */
function begin(time) {
  if (!width || players().some((one) => !one.paused)) return;
  seek(time);
  play(["NotAllowedError"]);
}

function play(forgiven = []) {
  if (!audio.getAttribute("src")) return;
  const range = loopRange();
  const ended = cursor >= Math.min(audio.duration || Infinity, music.end_s) - 0.02;
  if (range && (cursor < range[0] || cursor >= range[1])) seek(range[0]);
  else if (ended) seek(0);
  audio.play().catch((error) => {
    if (!["AbortError", ...forgiven].includes(error.name)) fail();
  });
}

function fail() {
  if (!audio.getAttribute("src")) return;
  broken = true;
  part("hint").textContent = hint();
}

function stop() {
  if (!audio.paused) audio.pause();
}

function toggle() {
  if (audio.paused) play();
  else stop();
}

function loopRange() {
  const range = loop && selection();
  return range ? [music.lines[range.from], music.lines[range.to + 1]] : null;
}

function advance() {
  if (!audio.paused && ready && !audio.seeking) {
    cursor = audio.currentTime;
    const range = loopRange();
    if (range && cursor >= range[1]) seek(range[0]);
    follow();
  }
  movePlayhead();
}

function tick() {
  if (audio.paused) return;
  advance();
  if (!calm.matches) requestAnimationFrame(tick);
}

function follow() {
  const x = place(cursor);
  if (drag || (x >= GUTTER && x <= width - 8)) return;
  scroller.scrollLeft = cursor * scale - (width - GUTTER) * 0.1;
}

function step(by) {
  const bar = barAt(position());
  const back = position() - music.lines[bar] > 0.25 ? bar : bar - 1;
  seek(music.lines[Math.min(Math.max(by > 0 ? bar + 1 : back, 0), music.lines.length - 1)]);
  reveal(cursor, cursor);
}

function clock(seconds) {
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

function writePlaying() {
  const playing = !audio.paused;
  part("play").dataset.playing = playing ? "yes" : "no";
  part("play").setAttribute("aria-label", playing ? "Pause" : "Play");
}

// ---- drawing

function redraw() {
  frameRequest = frameRequest || requestAnimationFrame(draw);
}

function draw() {
  frameRequest = 0;
  if (!width || !element.isConnected) return;
  const style = getComputedStyle(root);
  const ink = Object.fromEntries(
    ["ink", "faint", "ground", "lane", "line", "octave", "accent"].map(
      (name) => [name, style.getPropertyValue(`--roll-${name}`).trim()]));
  ink.font = style.fontFamily;
  drawRuler(surface(ruler), ink);
  drawSheet(surface(sheet), sheet.clientHeight, ink);
  moveSelection();
  movePlayhead();
}

function surface(canvas) {
  const ratio = window.devicePixelRatio || 1, height = canvas.clientHeight;
  const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== wide || canvas.height !== high) [canvas.width, canvas.height] = [wide, high];
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  return pen;
}

function visibleBars() {
  const first = barAt(scroller.scrollLeft / scale);
  const last = barAt((scroller.scrollLeft + width - GUTTER) / scale);
  return [first, last + 1];
}

function drawRuler(pen, ink) {
  if (music.empty) return;
  const count = Math.max(music.lines.length - 1, 1);
  const every = [1, 2, 4, 8, 16, 32, 64, 128].find((n) => n * (music.end_s / count) * scale >= 30) || 256;
  const [first, last] = visibleBars();
  pen.font = `11px ${ink.font}`;
  pen.textBaseline = "middle";
  let free = -Infinity;
  for (let bar = 0; bar < last && bar < music.lines.length - 1; bar++) {
    const x = Math.round(place(music.lines[bar])) + 0.5;
    const numbered = bar % every === 0 && x >= free;
    if (numbered) free = x + pen.measureText(String(bar + 1)).width + 6;
    if (bar < first) continue;
    pen.fillStyle = ink.octave;
    pen.fillRect(x - 0.5, numbered ? RULER - 9 : RULER - 5, 1, 9);
    if (!numbered) continue;
    pen.fillStyle = bar < music.written ? ink.ink : ink.faint;
    pen.globalAlpha = bar < music.written ? 1 : 0.6;
    pen.fillText(String(bar + 1), x + 3, RULER / 2);
    pen.globalAlpha = 1;
  }
  pen.fillStyle = ink.ground;
  pen.fillRect(0, 0, GUTTER, RULER);
  pen.fillStyle = ink.faint;
  pen.fillText("bar", 6, RULER / 2);
}

function drawSheet(pen, height, ink) {
  const strip = music.drums.length ? Math.min(Math.max(28, music.drums.length * 7), height * 0.26) : 0;
  const gap = strip ? 5 : 0;
  const lanes = { bottom: height - strip - gap, row: (height - strip - gap) / (span.high - span.low) };
  if (music.empty) return;
  drawLanes(pen, lanes, ink);
  const [first, last] = visibleBars();
  pen.fillStyle = ink.line;
  for (let bar = first; bar <= last && bar < music.lines.length; bar++) {
    pen.fillRect(Math.round(place(music.lines[bar])), 0, 1, height);
  }
  drawUnwritten(pen, height, ink);
  drawChosen(pen, height, ink);
  drawNotes(pen, lanes, { top: height - strip, row: strip / Math.max(music.drums.length, 1) }, ink);
  if (strip) {
    pen.fillStyle = ink.octave;
    pen.fillRect(GUTTER, height - strip - gap / 2, width, 1);
  }
  drawGutter(pen, height, lanes, height - strip / 2, strip, ink);
}

function drawLanes(pen, lanes, ink) {
  for (let pitch = span.low; pitch < span.high; pitch++) {
    const y = lanes.bottom - (pitch - span.low + 1) * lanes.row;
    pen.fillStyle = ink.lane;
    if (BLACK.includes(pitch % 12)) pen.fillRect(GUTTER, y, width, lanes.row);
    pen.fillStyle = ink.octave;
    if (pitch % 12 === 0) pen.fillRect(GUTTER, Math.round(y + lanes.row) - 1, width, 1);
  }
}

function drawUnwritten(pen, height, ink) {
  if (music.done || music.empty) return;
  const from = Math.max(place(music.lines[music.written]), GUTTER);
  pen.globalAlpha = 0.5;
  pen.fillStyle = ink.lane;
  pen.fillRect(from, 0, width - from, height);
  pen.globalAlpha = 1;
}

/** Under the notes, so that they keep their colours. */
function drawChosen(pen, height, ink) {
  const range = selection();
  if (!range) return;
  const [from, to] = [music.lines[range.from], music.lines[range.to + 1]].map(place);
  pen.globalAlpha = 0.14;
  pen.fillStyle = ink.accent;
  pen.fillRect(from, 0, to - from, height);
  pen.globalAlpha = 1;
}

function firstVisible(time) {
  let [low, high] = [0, music.count];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (music.start[middle] < time) low = middle + 1;
    else high = middle;
  }
  return low;
}

function drawNotes(pen, lanes, strip, ink) {
  const from = firstVisible(scroller.scrollLeft / scale - music.longest);
  const to = firstVisible((scroller.scrollLeft + width) / scale);
  const colours = new Map(music.programs.map((program) => [program, colour(program)]));
  const rows = new Map(music.drums.map((pitch, row) => [pitch, row]));
  const kept = music.layer.includes(1) ? 0.6 : 1;
  const mark = Math.min(Math.max(music.end_s / (music.lines.length - 1) * scale / 24, 1.2), 3);
  let current = null;
  for (const layer of [0, 2, 1]) {
    for (let note = from; note < to; note++) {
      if (music.layer[note] !== layer) continue;
      const program = music.program[note];
      const x = place(music.start[note]);
      const drum = program === DRUMS;
      const wide = drum ? mark : Math.max((music.end[note] - music.start[note]) * scale - 0.5, 2);
      if (x + wide < GUTTER) continue;
      const row = drum ? rows.get(music.pitch[note]) : music.pitch[note] - span.low;
      const high = drum ? strip.row : lanes.row;
      const y = (drum ? strip.top + (music.drums.length - 1 - row) * high : lanes.bottom - (row + 1) * high) + 0.5;
      if (current !== program) pen.fillStyle = pen.strokeStyle = colours.get(current = program);
      const dimmed = instrument !== null && instrument !== program ? 0.2 : 1;
      if (layer === 2) {
        pen.globalAlpha = 0.9 * dimmed;
        pen.strokeRect(x + 0.5, y + 0.5, Math.max(wide - 1, 1), Math.max(high - 2, 1));
      } else {
        pen.globalAlpha = (0.5 + 0.5 * music.velocity[note] / 127) * dimmed * (layer ? 1 : kept);
        pen.fillRect(x, y, wide, Math.max(high - 1, 1.5));
      }
    }
  }
  pen.globalAlpha = 1;
}

function drawGutter(pen, height, lanes, drumsAt, strip, ink) {
  pen.fillStyle = ink.ground;
  pen.fillRect(0, 0, GUTTER, height);
  const every = lanes.row * 12 < 14 ? 24 : 12;
  pen.font = `11px ${ink.font}`;
  pen.textBaseline = "middle";
  for (let pitch = span.low; pitch < span.high; pitch++) {
    const y = lanes.bottom - (pitch - span.low + 1) * lanes.row;
    pen.fillStyle = ink.faint;
    if (BLACK.includes(pitch % 12)) pen.fillRect(GUTTER - KEYS, y, KEYS * 0.65, lanes.row);
    if (pitch % 12 === 0) pen.fillRect(GUTTER - KEYS, Math.round(y + lanes.row) - 1, KEYS, 1);
    pen.fillStyle = ink.ink;
    if (pitch % every === 0) pen.fillText(`C${pitch / 12 - 1}`, 5, Math.min(y + lanes.row / 2, height - 7) - 1);
  }
  pen.fillStyle = ink.octave;
  pen.fillRect(GUTTER - KEYS, 0, 1, lanes.bottom);
  pen.fillRect(GUTTER - 1, 0, 1, height);
  if (!strip) return;
  pen.fillStyle = ink.ink;
  pen.font = `9px ${ink.font}`;
  pen.fillText("drums", 5, drumsAt);
}

function moveSelection() {
  const range = selection(), box = part("chosen");
  box.style.display = range ? "block" : "none";
  if (!range) return;
  const left = Math.max(place(music.lines[range.from]), GUTTER - 4);
  const right = Math.max(place(music.lines[range.to + 1]), GUTTER - 4);
  box.style.transform = `translateX(${left}px)`;
  box.style.width = `${right - left}px`;
  box.style.visibility = right > GUTTER ? "visible" : "hidden";
}

function movePlayhead() {
  const now = Math.min(position(), music.end_s), x = place(now), line = part("head-line");
  line.style.display = music.empty || x < GUTTER - 1 || x > width + 8 ? "none" : "block";
  line.style.transform = `translateX(${x}px)`;
  const text = music.empty ? "" : `${clock(now)} / ${clock(music.seconds)} · bar ${barAt(now) + 1}`;
  if (part("time").textContent !== text) part("time").textContent = text;
}

// ---- what the user does

function pointerBar(event) {
  return Math.min(barAt(timeAt(event.clientX)), music.written - 1);
}

function press(event) {
  if (!props.selectable || !music.written || event.button !== 0 || !event.isPrimary) return;
  const bar = pointerBar(event);
  drag = { before: chosen, x: event.clientX };
  chosen = { anchor: event.shiftKey && chosen ? chosen.anchor : bar, focus: bar };
  sheet.setPointerCapture(event.pointerId);
  writeSelection();
  redraw();
  requestAnimationFrame(creep);
}

function pull(event) {
  if (!drag) return;
  drag.x = event.clientX;
  const bar = pointerBar(event);
  if (bar === chosen.focus) return;
  chosen = { anchor: chosen.anchor, focus: bar };
  writeSelection();
  redraw();
}

/** Scrolls on while a drag is held at an edge. */
function creep() {
  if (!drag) return;
  const x = drag.x - frame.getBoundingClientRect().left;
  const by = x > width - 16 ? 6 : x < GUTTER ? -6 : 0;
  if (by) {
    scroller.scrollLeft += by;
    pull({ clientX: drag.x });
  }
  requestAnimationFrame(creep);
}

function release() {
  if (!drag) return;
  drag = null;
  changed();
}

function abandon() {
  if (!drag) return;
  chosen = drag.before;
  drag = null;
  changed();
}

function pressKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const onButton = event.target.closest("button") !== null;
  const sideways = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (event.key === " " && !onButton) toggle();
  else if (event.key === "Home") {
    seek(0);
    scroller.scrollLeft = 0;
  } else if (sideways && event.shiftKey && props.selectable) extend(sideways);
  else if (sideways && !event.shiftKey) step(sideways);
  else if (event.key === "Escape" && drag) abandon();
  else if (event.key === "Escape" && (chosen || instrument !== null)) clear();
  else return;
  event.preventDefault();
  event.stopPropagation();
}

function turnWheel(event) {
  if (!event.ctrlKey) return;
  event.preventDefault();
  zoom(event.deltaY < 0 ? 1.15 : 1 / 1.15, event.clientX - frame.getBoundingClientRect().left);
}

function toggleLoop() {
  loop = !loop;
  part("loop").setAttribute("aria-pressed", String(loop));
  writeSelection();
}

function repaint() {
  paintLegend();
  redraw();
}

function listen() {
  const help = `roll-help-${Math.random().toString(36).slice(2)}`;
  part("help").id = help;
  scroller.setAttribute("aria-describedby", help);
  part("play").addEventListener("click", toggle);
  part("loop").addEventListener("click", toggleLoop);
  part("wider").addEventListener("click", () => zoom(STEP));
  part("narrower").addEventListener("click", () => zoom(1 / STEP));
  part("clear").addEventListener("click", () => {
    clear();
    scroller.focus();
  });
  ruler.addEventListener("click", (event) => seek(timeAt(event.clientX)));
  sheet.addEventListener("click", (event) => {
    if (!props.selectable) seek(timeAt(event.clientX));
  });
  sheet.addEventListener("pointerdown", press);
  sheet.addEventListener("pointermove", pull);
  sheet.addEventListener("pointerup", release);
  sheet.addEventListener("pointercancel", abandon);
  scroller.addEventListener("scroll", redraw, { passive: true });
  scroller.addEventListener("wheel", turnWheel, { passive: false });
  root.addEventListener("keydown", pressKey);
  audio.addEventListener("play", () => {
    for (const one of players()) if (one !== audio) one.pause();
    writePlaying();
    requestAnimationFrame(tick);
  });
  audio.addEventListener("pause", () => {
    if (ready) cursor = audio.currentTime;
    writePlaying();
    movePlayhead();
  });
  audio.addEventListener("ended", writePlaying);
  audio.addEventListener("timeupdate", advance);
  audio.addEventListener("loadedmetadata", () => {
    ready = true;
    if (cursor) audio.currentTime = cursor;
  });
  audio.addEventListener("error", fail);
  // Media events do not bubble, but are captured unless they are in a shadow: whatever else begins to play ends this.
  document.addEventListener("play", (event) => {
    if (event.target !== audio) stop();
  }, { capture: true, signal: gone.signal });
  calm.addEventListener("change", () => requestAnimationFrame(tick), { signal: gone.signal });
}

function observe() {
  const theme = new MutationObserver(repaint);
  for (const one of [document.documentElement, document.body]) {
    theme.observe(one, { attributes: true, attributeFilter: ["class", "style"] });
  }
  const size = new ResizeObserver(() => {
    if (element.isConnected) {
      layOut();
      return;
    }
    audio.pause();
    gone.abort();
    theme.disconnect();
    size.disconnect();
  });
  size.observe(scroller);
  size.observe(sheet);
}

listen();
observe();
show();
watch(["value", "selectable", "label"], show);
