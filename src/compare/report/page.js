"use strict";
(() => {
  const page = JSON.parse(document.getElementById("data").textContent);
  const el = id => document.getElementById(id);
  const host = el("plots"), readout = el("readout");
  const causes = new Map(page.causes);
  const names = {
    window: "window", in_flight: "in flight", ssthresh: "ssthresh", rtt: "round trip",
    queue: "queue", goodput: "throughput", pacing: "pacing rate",
  };
  const hidden = new Set();
  const off = new Set(["pacing"]);
  let figure = page.figures[0];
  let asking = page.ask;
  // What is seen of the time, and where the reading line stands.
  let from = 0, until = 1, reading = null;
  let size = null, panels = [], layer = null;
  // By panel: what a student expects, [seconds, value] in order of time.
  let sketches = new Map();
  let pen = null;

  const SVG = "http://www.w3.org/2000/svg";
  function draw(parent, kind, attributes, text) {
    const node = document.createElementNS(SVG, kind);
    for (const name in attributes) node.setAttribute(name, attributes[name]);
    if (text !== undefined) node.textContent = text;
    parent.append(node);
    return node;
  }
  function make(parent, kind, text, attributes = {}) {
    const node = document.createElement(kind);
    for (const name in attributes) node.setAttribute(name, attributes[name]);
    if (text !== undefined) node.textContent = text;
    parent.append(node);
    return node;
  }
  const clamp = (value, least, most) => Math.max(least, Math.min(most, value));

  function three(value) {
    const digits = Math.abs(value) >= 99.95 || value === 0 ? 0 : Math.abs(value) >= 9.995 ? 1 : 2;
    return value.toFixed(digits);
  }
  const told = (panel, value) => `${three(value * panel.unit.factor)} ${panel.unit.name}`;

  // Round numbers from `low` to `high`, about so many.
  function ticks(low, high, about) {
    const rough = (high - low) / about;
    const magnitude = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map(n => n * magnitude).find(n => n >= rough * 0.999);
    const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
    const found = [];
    for (let n = Math.ceil(low / step - 1e-9); n * step <= high * (1 + 1e-9); n++)
      found.push([n * step, (n * step).toFixed(digits)]);
    return found;
  }

  // The last place whose time is not after `at`; -1 before all.
  function place(times, at) {
    let low = 0, high = times.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (times[middle] <= at) low = middle + 1; else high = middle;
    }
    return low - 1;
  }
  // What a line says at a time; null: nothing then.
  function value(line, at) {
    let n = place(line.at, at);
    // Each point of a throughput is the mean since the one before.
    if (line.what === "goodput") n = n >= 0 && line.at[n] === at ? n : n + 1;
    return n < 0 || n >= line.at.length || n === line.at.length - 1 && at > line.at[n] ? null : line.values[n];
  }

  const seen = panel => panel.flow === null || !hidden.has(panel.flow);
  const drawn = line => (line.flow === null || !hidden.has(line.flow)) && !off.has(line.what);

  function path(line, x, y) {
    const first = Math.max(0, place(line.at, from)), last = Math.min(line.at.length - 1, place(line.at, until) + 1);
    const area = line.what === "in_flight";
    let d = "", old = null, column = null, low = 0, high = 0;
    for (let n = first; n <= last; n++) {
      const at = x(line.at[n]), to = y(line.values[n]);
      const short = at.toFixed(1), level = to.toFixed(1);
      if (old === null) d += area ? `M${short} ${y(0).toFixed(1)}V${level}` : `M${short} ${level}`;
      else if (line.what === "goodput") d += `V${level}H${short}`;
      else if (line.what === "ssthresh") d += `H${short}V${level}`;
      else if (short === column && to >= low && to <= high && n < last) {
        // Inside what this column of pixels has.
        continue;
      } else d += level === old ? `H${short}` : `L${short} ${level}`;
      if (short !== column) { column = short; low = high = to; }
      low = Math.min(low, to); high = Math.max(high, to); old = level;
    }
    return d && area ? `${d}V${y(0).toFixed(1)}Z` : d;
  }

  // Where a plot's axis ends: at what is seen of it.
  function highest(panel) {
    if (from === 0 && until === figure.seconds) return panel.top;
    let most = 0;
    for (const line of panel.lines) {
      if (!drawn(line) || line.what === "pacing" || line.what === "ssthresh") continue;
      const last = Math.min(line.at.length - 1, place(line.at, until) + 1);
      for (let n = Math.max(0, place(line.at, from)); n <= last; n++) most = Math.max(most, line.values[n]);
    }
    if (panel.level && panel.level[0] <= 3 * most) most = Math.max(most, panel.level[0]);
    return most > 0 ? most * (panel.kind === "window" ? 1.22 : 1.08) : panel.top;
  }

  const signs = {
    random: "m-3-3l6 6m0-6l-6 6", burst: "m-3-3l6 6m0-6l-6 6m3-4v8", queue_full: "m-3-3h6v6h-6z",
    policer: "m-3 3h6l-3-6z", codel: "m-3-3h6l-3 6z", red: "m-3-3h6l-6 6h6z", marked: "m-3 3l3-6l3 6",
    blackout: "m0-4v8m-3-8v8m6-8v8", corrupt: "m0-4l4 4l-4 4l-4-4z",
    late: "m-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0", unknown: "m-3 0h6m-3-3v6",
  };
  const solid = ["queue_full", "policer", "codel", "red", "corrupt"];
  const filled = cause => solid.includes(cause) ? "mark filled" : "mark";

  // Draws everything anew.
  function render(paper) {
    const width = paper ?? host.clientWidth;
    const k = paper ? 1 : parseFloat(getComputedStyle(document.documentElement).fontSize) / 16;
    const left = (width < 500 ? 40 : 56) * k, right = 10 * k, title = 30 * k;
    size = { left, right, width, plot: Math.max(50, width - left - right), k };
    const x = at => left + size.plot * (at - from) / (until - from);
    size.x = x;
    panels = figure.panels.filter(seen);
    let shrink = 1;
    const height = panel => (panel.kind === "window" ? (width < 500 ? 90 : 104) : 120) * k * shrink;
    // On paper all stand on one page beside the heading, as long as there is something to see.
    if (paper) {
      const sum = panels.reduce((sum, panel) => sum + height(panel), 0);
      shrink = clamp((paper - 60 - title * panels.length) / sum, 0.4, 1);
    }
    const tops = new Map(panels.map(panel => [panel, highest(panel)]));
    // Windows are compared with each other.
    const tallest = Math.max(...panels.filter(panel => panel.kind === "window").map(panel => tops.get(panel)));
    for (const panel of panels) if (panel.kind === "window") tops.set(panel, tallest);
    const changes = page.changes.filter(([at]) => at >= from && at <= until);
    let y = changes.length ? 14 * k : 0;
    const total = panels.reduce((sum, panel) => sum + title + height(panel), y + 42 * k);
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${width} ${total}`);
    svg.setAttribute("aria-hidden", "true");
    const clip = draw(draw(svg, "clipPath", { id: "inside" }), "rect", { x: left, y: 0, width: size.plot, height: total });
    clip.setAttribute("y", 0);
    const times = ticks(from, until, Math.max(3, size.plot / (95 * k)));
    size.spots = [];
    panels.forEach((panel, number) => {
      y += title;
      const tall = height(panel), bottom = y + tall, top = y;
      const most = tops.get(panel), factor = panel.unit.factor;
      const spot = { panel, top, bottom, most, number, y: amount => bottom - tall * clamp(amount / most, 0, 1) };
      spot.amount = at => most * clamp((bottom - at) / tall, 0, 1);
      size.spots.push(spot);
      const group = draw(svg, "g", { class: `panel ${panel.kind}` + (panel.flow === null ? "" : ` f${panel.flow}`) });
      for (const [at] of times) draw(group, "line", { class: "grid", x1: x(at), x2: x(at), y1: top, y2: bottom });
      const levels = most === panel.top ? panel.ticks : ticks(0, most * factor, 4).map(([amount, text]) => [amount / factor, text]);
      for (const [amount, text] of levels) {
        draw(group, "line", { class: "grid", x1: left, x2: width - right, y1: spot.y(amount), y2: spot.y(amount) });
        draw(group, "text", { class: "faint", x: left - 6 * k, y: spot.y(amount) + 4 * k, "text-anchor": "end" }, text);
      }
      const words = draw(group, "text", { class: "title", x: left, y: top - 8 * k }, panel.title);
      draw(words, "tspan", { "font-weight": 400 }, ` (${panel.unit.name})`);
      if (panel.kind === "window" && number === 0) key(group, width - right, top - 8 * k, k);
      const inner = draw(group, "g", { "clip-path": "url(#inside)" });
      if (!asking) {
        if (!off.has("phases")) bands(inner, panel, spot, x, k);
        if (panel.level) {
          const [amount, text] = panel.level;
          draw(inner, "line", { class: "level", x1: left, x2: width - right, y1: spot.y(amount), y2: spot.y(amount) });
          draw(inner, "text", { class: "faint", x: width - right - 3 * k, y: spot.y(amount) - 3 * k, "text-anchor": "end" }, text);
        }
        for (const line of panel.lines) {
          if (!drawn(line)) continue;
          const shape = line.what === "in_flight" || line.what === "ssthresh" ? line.what : `curve ${line.what}`;
          const dashed = panel.kind === "window" ? "" : " dashed";
          draw(inner, "path", { class: `${shape}${dashed}` + (line.flow === null ? "" : ` f${line.flow}`), d: path(line, x, spot.y) });
        }
        if (!off.has("losses")) marks(inner, panel, spot, x, k);
      }
      if (sketches.has(number)) {
        const points = sketches.get(number).map(([at, amount]) => `${x(at).toFixed(1)} ${spot.y(amount).toFixed(1)}`);
        draw(inner, "path", { class: "sketch", d: `M${points.join("L")}` });
      }
      for (const [at, text] of changes) {
        draw(group, "line", { class: "change", x1: x(at), x2: x(at), y1: top - (number ? title : 4 * k), y2: bottom });
        if (!number) {
          const beyond = x(at) > width * 0.8;
          draw(group, "text", { class: "faint", x: x(at), y: 11 * k, "text-anchor": beyond ? "end" : "middle" }, text);
        }
      }
      draw(group, "line", { class: "axis", x1: left, x2: width - right, y1: bottom, y2: bottom });
      y = bottom;
    });
    for (const [at, text] of times) {
      draw(svg, "line", { class: "axis", x1: x(at), x2: x(at), y1: y, y2: y + 4 * k });
      draw(svg, "text", { class: "faint", x: x(at), y: y + 17 * k, "text-anchor": "middle" }, text);
    }
    draw(svg, "text", { class: "faint", x: left + size.plot / 2, y: y + 35 * k, "text-anchor": "middle" }, "time (s)");
    layer = draw(svg, "g", { class: "over" });
    host.replaceChildren(svg);
    el("whole").disabled = from === 0 && until === figure.seconds;
    over();
  }

  // What the lines of a window's plot are.
  function key(group, right, y, k) {
    let at = right;
    for (const [what, sample] of [["in_flight", 14], ["ssthresh", 18], ["window", 18]]) {
      if (off.has(what)) continue;
      at -= names[what].length * 6.3 * k;
      draw(group, "text", { class: "faint", x: at, y }, names[what]);
      at -= (sample + 5) * k;
      const d = what === "in_flight" ? `M${at} ${y}v${-9 * k}h${sample * k}v${9 * k}z` : `M${at} ${y - 4 * k}h${sample * k}`;
      draw(group, "path", { class: what === "window" ? "curve" : what, d });
      at -= 12 * k;
    }
  }

  function bands(inner, panel, spot, x, k) {
    const known = [];
    for (const band of panel.bands) {
      if (!known.includes(band.name)) known.push(band.name);
      if (band.until < from || band.from > until) continue;
      const begin = x(Math.max(band.from, from)), end = x(Math.min(band.until, until));
      const opacity = 0.09 - 0.03 * (known.indexOf(band.name) % 4);
      const node = draw(inner, "rect", { class: "band", x: begin, y: spot.top, width: Math.max(0, end - begin), height: spot.bottom - spot.top, "fill-opacity": opacity });
      draw(node, "title", {}, band.name.replaceAll("_", " "));
      const words = band.name.replaceAll("_", " ");
      if (end - begin > (8 + 6.4 * words.length) * k) draw(inner, "text", { class: "faint", x: begin + 4 * k, y: spot.top + 12 * k }, words);
    }
  }

  function marks(inner, panel, spot, x, k) {
    let last = -Infinity;
    for (const cut of panel.cuts) {
      if (cut.at < from || cut.at > until) continue;
      // A controller may cut in every round trip: those that would cover each other wait for the zoom.
      if (x(cut.at) - last < 5 * k) continue;
      last = x(cut.at);
      draw(inner, "circle", { class: "cut", cx: x(cut.at), cy: spot.y(cut.after), r: 2.2 * k });
    }
    const taken = new Set();
    for (const loss of panel.losses) {
      if (loss.at < from || loss.at > until) continue;
      // One of a cause to a few pixels: more would be a bar.
      const spotted = `${loss.cause} ${Math.round(x(loss.at) / 3)}`;
      if (taken.has(spotted)) continue;
      taken.add(spotted);
      draw(inner, "path", { class: filled(loss.cause), d: `M${x(loss.at).toFixed(1)} ${(spot.bottom - 6 * k).toFixed(1)}${signs[loss.cause]}` });
    }
  }

  // The reading line, what it reads, and a choice under way.
  function over(choice) {
    layer.replaceChildren();
    const last = size.spots.at(-1);
    if (!last) { readout.replaceChildren(); make(readout, "p", "No sender is shown."); return; }
    const top = size.spots[0].top, bottom = last.bottom;
    if (choice) {
      const [a, b] = choice.map(at => clamp(at, size.left, size.left + size.plot)).sort((a, b) => a - b);
      draw(layer, "rect", { class: "choice", x: a, y: top, width: b - a, height: bottom - top });
    }
    if (pen && asking) {
      const spot = size.spots[pen.number];
      if (spot) draw(layer, "circle", { class: "cut", cx: size.x(pen.at), cy: spot.y(pen.amount), r: 5 * size.k });
    }
    if (reading !== null && reading >= from && reading <= until)
      draw(layer, "line", { class: "reading", x1: size.x(reading), x2: size.x(reading), y1: top, y2: bottom });
    read();
  }

  // The cut that the reading line is at, of each panel.
  function cutAt(panel) {
    const near = 6 * size.k * (until - from) / size.plot;
    let best = null;
    for (const cut of panel.cuts)
      if (Math.abs(cut.at - reading) <= near && (!best || Math.abs(cut.at - reading) < Math.abs(best.at - reading))) best = cut;
    return best;
  }

  function read() {
    readout.replaceChildren();
    if (asking) {
      const spot = pen && size.spots[pen.number];
      make(readout, "p", spot ? `${spot.panel.title}, ${three(pen.at)} s: ${told(spot.panel, pen.amount)}` : "Nothing drawn yet.");
      return;
    }
    if (reading === null) {
      make(readout, "p", "Point at the plots to read their values, and at a cut of a window (the small circles) to read why it was made.");
      return;
    }
    const at = reading;
    const columns = ["window", "ssthresh", "in_flight", "rtt", "queue", "goodput", "pacing"];
    const cells = new Map();
    const phases = new Map();
    for (const panel of panels) {
      for (const line of panel.lines) {
        if (line.flow !== null && hidden.has(line.flow)) continue;
        const amount = value(line, at);
        if (!cells.has(line.flow)) cells.set(line.flow, {});
        if (amount !== null) cells.get(line.flow)[line.what] = told(panel, amount);
      }
      const phase = panel.bands.find(band => band.from <= at && at < band.until);
      if (phase) phases.set(panel.flow, phase.name.replaceAll("_", " "));
    }
    const used = columns.filter(what => [...cells.values()].some(row => what in row));
    const table = make(readout, "table");
    const head = make(make(table, "thead"), "tr");
    make(head, "th", `${at.toFixed(3)} s`, { scope: "col" });
    for (const what of used) make(head, "th", names[what], { scope: "col" });
    if (phases.size) make(head, "th", "phase", { scope: "col" });
    const body = make(table, "tbody");
    const order = [...cells.keys()].sort((a, b) => (a ?? 99) - (b ?? 99));
    for (const flow of order) {
      const row = make(body, "tr");
      const name = make(row, "th", undefined, { scope: "row" });
      if (flow !== null) make(name, "span", "", { class: `swatch f${flow}` });
      name.append(flow === null ? "link" : page.flows[flow]);
      for (const what of used) make(row, "td", cells.get(flow)[what] ?? "–");
      if (phases.size) make(row, "td", phases.get(flow) ?? "–");
    }
    for (const panel of panels) {
      const cut = cutAt(panel);
      if (!cut) continue;
      const line = make(readout, "p", undefined, { class: "why" });
      make(line, "strong", `${panel.title}, ${cut.at.toFixed(3)} s: `);
      line.append(cut.words);
    }
  }

  function zoom(low, high) {
    const span = clamp(high - low, figure.seconds / 20000, figure.seconds);
    const middle = (low + high) / 2;
    from = clamp(middle - span / 2, 0, figure.seconds - span);
    until = from + span;
    if (span >= figure.seconds * 0.9999) { from = 0; until = figure.seconds; }
    render();
  }
  const scale = (by, around = (from + until) / 2) => zoom(around - (around - from) * by, around + (until - around) * by);
  const whole = () => zoom(0, figure.seconds);

  // Pointers: read, choose a time, or draw.
  let down = null;
  const where = event => {
    const box = host.firstChild.getBoundingClientRect();
    return [(event.clientX - box.left) * size.width / box.width, (event.clientY - box.top) * size.width / box.width];
  };
  const time = x => clamp(from + (until - from) * (x - size.left) / size.plot, from, until);
  const spotAt = y => size.spots.find(spot => y >= spot.top - 6 && y <= spot.bottom + 6);

  function sketch(number, at, amount, joined) {
    const points = sketches.get(number) ?? [];
    const before = joined && pen && pen.number === number ? pen.at : at;
    const [low, high] = [Math.min(before, at), Math.max(before, at)];
    const kept = points.filter(([other]) => other < low || other > high);
    if (joined && pen && pen.number === number && before !== at) kept.push([before, pen.amount]);
    kept.push([at, amount]);
    kept.sort((a, b) => a[0] - b[0]);
    sketches.set(number, kept);
    pen = { number, at, amount };
    el("reveal").disabled = ![...sketches.values()].some(points => points.length > 1);
    render();
  }

  host.addEventListener("pointerdown", event => {
    if (event.button !== 0) return;
    const [x, y] = where(event);
    down = { x, number: spotAt(y)?.number };
    host.setPointerCapture(event.pointerId);
    if (asking && down.number !== undefined) {
      sketch(down.number, time(x), size.spots[down.number].amount(y), false);
      event.preventDefault();
      host.focus();
    }
  });
  host.addEventListener("pointermove", event => {
    const [x, y] = where(event);
    if (asking) {
      if (down && down.number !== undefined) sketch(down.number, time(x), size.spots[down.number].amount(y), true);
      return;
    }
    reading = time(x);
    over(down && Math.abs(x - down.x) > 4 ? [down.x, x] : undefined);
  });
  host.addEventListener("pointerup", event => {
    const [x] = where(event);
    if (down && !asking && Math.abs(x - down.x) > 4) {
      const [a, b] = [time(down.x), time(x)];
      zoom(Math.min(a, b), Math.max(a, b));
    } else if (!asking) { reading = time(x); over(); }
    down = null;
  });
  host.addEventListener("pointercancel", () => { down = null; over(); });
  host.addEventListener("dblclick", () => { if (!asking) whole(); });
  host.addEventListener("wheel", event => {
    if (asking || !(event.ctrlKey || event.metaKey || event.shiftKey)) return;
    event.preventDefault();
    const turned = event.deltaY || event.deltaX;
    scale(turned > 0 ? 1.25 : 0.8, time(where(event)[0]));
  }, { passive: false });

  host.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = (until - from) / (event.shiftKey ? 10 : 100);
    const sideways = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const upwards = { ArrowUp: 1, ArrowDown: -1 }[event.key];
    const page_ = { PageUp: -1, PageDown: 1 }[event.key];
    if (asking) {
      if (!pen) pen = { number: 0, at: from, amount: 0 };
      const spot = size.spots[pen.number];
      if (!spot) return;
      if (page_) { pen = { number: clamp(pen.number + page_, 0, size.spots.length - 1), at: from, amount: 0 }; over(); }
      else if (upwards) { pen.amount = clamp(pen.amount + upwards * spot.most / 20, 0, spot.most); sketch(pen.number, pen.at, pen.amount, false); }
      else if (sideways) sketch(pen.number, clamp(pen.at + sideways * 2 * step, from, until), pen.amount, true);
      else return;
    } else if (sideways) {
      reading = clamp((reading ?? (from + until) / 2) + sideways * step, 0, figure.seconds);
      if (reading < from || reading > until) zoom(reading - (until - from) / 2, reading + (until - from) / 2); else over();
    } else if (event.key === "c" || event.key === "C") {
      const cuts = panels.flatMap(panel => panel.cuts.map(cut => cut.at)).sort((a, b) => a - b);
      const next = event.key === "C" ? cuts.findLast(at => at < (reading ?? Infinity)) : cuts.find(at => at > (reading ?? -1));
      if (next === undefined) return;
      reading = next;
      if (reading < from || reading > until) zoom(reading - (until - from) / 2, reading + (until - from) / 2); else over();
    } else if (event.key === "+" || event.key === "=") scale(0.5, reading ?? undefined);
    else if (event.key === "-") scale(2, reading ?? undefined);
    else if (event.key === "0") whole();
    else if (event.key === "Escape") { reading = null; over(); }
    else return;
    event.preventDefault();
  });

  // Controls.
  page.flows.forEach((name, flow) => {
    const button = make(el("legend"), "button", undefined, { type: "button", class: `flow f${flow}`, "aria-pressed": "true" });
    const sample = draw(button, "svg", { viewBox: "0 0 28 10", "aria-hidden": "true" });
    draw(sample, "path", { class: `curve dashed f${flow}`, d: "M0 5H28", style: "stroke-width:2.5" });
    button.append(name);
    button.addEventListener("click", () => {
      if (hidden.delete(flow)) button.setAttribute("aria-pressed", "true");
      else { hidden.add(flow); button.setAttribute("aria-pressed", "false"); }
      for (const node of document.querySelectorAll(`.sweep g.f${flow}`)) node.classList.toggle("off", hidden.has(flow));
      sketches = new Map(); pen = null;
      render(); tell();
    });
  });
  const has = what => page.figures.some(figure => figure.panels.some(panel =>
    what === "phases" ? panel.bands.length : what === "losses" ? panel.losses.length : panel.lines.some(line => line.what === what)));
  for (const what of ["in_flight", "ssthresh", "phases", "losses", "pacing"]) {
    if (!has(what)) continue;
    const label = make(el("also"), "label");
    const box = make(label, "input", undefined, { type: "checkbox" });
    box.checked = !off.has(what);
    label.append(names[what] ?? what);
    box.addEventListener("change", () => { if (box.checked) off.delete(what); else off.add(what); render(); });
  }
  el("in").addEventListener("click", () => scale(0.5, reading ?? undefined));
  el("out").addEventListener("click", () => scale(2, reading ?? undefined));
  el("whole").addEventListener("click", whole);

  const choose = el("figure");
  page.figures.forEach((figure, n) => make(choose, "option", figure.label || "all", { value: n }));
  el("which").hidden = page.figures.length < 2;
  choose.addEventListener("change", () => show(page.figures[choose.value]));

  el("reveal").addEventListener("click", () => {
    asking = false;
    document.body.classList.remove("asking");
    el("ask").hidden = true;
    render(); tell();
    host.focus();
  });
  el("wipe").addEventListener("click", () => { sketches = new Map(); pen = null; el("reveal").disabled = true; render(); });

  // What the marks mean, with how many there were; and the tables, once they are wanted.
  function tell() {
    const sums = new Map();
    for (const panel of panels) for (const loss of panel.losses) sums.set(loss.cause, (sums.get(loss.cause) ?? 0) + loss.packets);
    const line = el("causes");
    line.replaceChildren();
    if (asking) return;
    for (const [cause, words] of causes) {
      if (!sums.has(cause)) continue;
      const item = make(line, "span", undefined, { style: "white-space:nowrap;margin-right:1.2em" });
      draw(draw(item, "svg", { width: 12, height: 12, viewBox: "-6 -6 12 12", "aria-hidden": "true", style: "vertical-align:-1px;margin-right:.3em" }), "path", { class: filled(cause), d: `M0 0${signs[cause]}` });
      item.append(`${words}: ${sums.get(cause)} packets`);
    }
    if (el("numbers").open) tables();
  }

  function tables() {
    const into = el("tables");
    into.replaceChildren();
    const rows = 50;
    for (const [flow, name] of page.flows.entries()) {
      const lines = figure.panels.flatMap(panel => panel.lines.filter(line => line.flow === flow).map(line => [panel, line]));
      if (!lines.length || hidden.has(flow)) continue;
      const box = make(into, "div", undefined, { class: "scroll", role: "region", tabindex: "0", "aria-label": `${name} over time` });
      const table = make(box, "table");
      make(table, "caption", `${name} over time`);
      const head = make(make(table, "thead"), "tr");
      make(head, "th", "time (s)", { scope: "col" });
      for (const [panel, line] of lines) make(head, "th", `${names[line.what]} (${panel.unit.name})`, { scope: "col" });
      const body = make(table, "tbody");
      for (let n = 0; n <= rows; n++) {
        const at = figure.seconds * n / rows;
        const row = make(body, "tr");
        make(row, "th", at.toFixed(2), { scope: "row" });
        for (const [panel, line] of lines) {
          const amount = value(line, at);
          make(row, "td", amount === null ? "–" : three(amount * panel.unit.factor));
        }
      }
      const cuts = figure.panels.filter(panel => panel.flow === flow).flatMap(panel => panel.cuts);
      if (!cuts.length) continue;
      make(into, "p", `${name}: cuts of the window`, { class: "note" });
      const list = make(into, "ul");
      for (const cut of cuts) make(list, "li", `${cut.at.toFixed(3)} s: ${cut.words}`);
    }
  }
  el("numbers").addEventListener("toggle", tell);

  function show(chosen) {
    figure = chosen;
    from = 0; until = figure.seconds; reading = null;
    sketches = new Map(); pen = null;
    render(); tell();
  }
  if (asking) el("ask").hidden = false;
  if (figure) show(figure); else make(host, "p", "Nothing ran.");
  addEventListener("resize", () => figure && render());
  addEventListener("beforeprint", () => figure && render(900));
  addEventListener("afterprint", () => figure && render());
})();
