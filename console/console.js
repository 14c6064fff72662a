// The loop as it stands, read every two seconds from the public API.
"use strict";

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const number = (x, digits = 3) => (x === null || x === undefined ? "–" : x.toFixed(digits));
const day = (t) => (t ? t.slice(0, 10) : "–");
const minute = (t) => (t ? t.slice(0, 16).replace("T", " ") : "–");
let chosen = new URLSearchParams(location.search).get("endpoint");

/** An element with attributes and children; text is never read as markup. */
function el(name, attributes = {}, ...children) {
  const node = name.startsWith("svg:") ? document.createElementNS(SVG, name.slice(4)) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children.map((child) => (child instanceof Node ? child : document.createTextNode(String(child)))));
  return node;
}

function table(target, heads, rows, none) {
  target.replaceChildren();
  if (!rows.length) return target.append(el("tr", {}, el("td", { class: "none" }, none)));
  target.append(el("tr", {}, ...heads.map((head) => el("th", {}, head))));
  for (const row of rows) {
    target.append(el("tr", {}, ...row.map((cell) => (cell instanceof Node && cell.tagName === "TD" ? cell : el("td", {}, cell)))));
  }
}

const pill = (state) => el("span", { class: `state ${state}` }, state.replace("_", " "));
const wide = (text) => el("td", { class: "wide" }, text);

/** Round values that cover [low, high] in about `count` steps. */
function ticks(low, high, count) {
  const raw = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
  const all = [];
  for (let v = Math.ceil(low / step) * step; v <= high + step / 1e6; v += step) all.push(v);
  return { all, digits: Math.max(0, -Math.floor(Math.log10(step))) };
}

/** A line chart over event time. series: {name, color, dash, points: [{t, y}]}; marks: {t, text, color}. */
function chart(target, series, marks = [], { zero = false, width = 560 } = {}) {
  const points = series.flatMap((s) => s.points.filter((p) => p.y !== null && p.y !== undefined));
  target.replaceChildren();
  if (!points.length) return target.append(el("p", { class: "none" }, "nothing measured yet"));
  const [height, left, right, top, bottom] = [210, 40, 8, 8, 22];
  const times = points.map((p) => p.t);
  let [t0, t1] = [Math.min(...times), Math.max(...times)];
  if (t0 === t1) [t0, t1] = [t0 - 864e5, t1 + 864e5];
  let [y0, y1] = [Math.min(...points.map((p) => p.y)), Math.max(...points.map((p) => p.y))];
  const pad = (y1 - y0) * 0.08 || 0.01;
  [y0, y1] = [zero ? 0 : y0 - pad, y1 + pad];
  const x = (t) => left + ((t - t0) / (t1 - t0)) * (width - left - right);
  const y = (v) => top + (1 - (v - y0) / (y1 - y0)) * (height - top - bottom);
  const svg = el("svg:svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  const scale = ticks(y0, y1, 4);
  for (const v of scale.all) {
    svg.append(el("svg:line", { x1: left, x2: width - right, y1: y(v), y2: y(v), stroke: "var(--grid)" }));
    svg.append(el("svg:text", { x: left - 6, y: y(v) + 4, "text-anchor": "end" }, v.toFixed(scale.digits)));
  }
  const months = [];
  const cursor = new Date(t0);
  cursor.setUTCDate(1);
  cursor.setUTCHours(0, 0, 0, 0);
  for (; cursor <= t1; cursor.setUTCMonth(cursor.getUTCMonth() + 1)) if (cursor >= t0) months.push(+cursor);
  const dates = months.length > 1 ? months : [t0, t1];
  for (const t of dates) {
    const text = new Date(t).toLocaleDateString("en-GB", { timeZone: "UTC", ...(months.length > 1 ? { month: "short" } : { day: "numeric", month: "short" }) });
    svg.append(el("svg:text", { x: x(t), y: height - 5, "text-anchor": t === t1 ? "end" : "start" }, text));
  }
  for (const mark of marks.filter((m) => m.t >= t0 && m.t <= t1)) {
    svg.append(el("svg:line", { x1: x(mark.t), x2: x(mark.t), y1: top, y2: height - bottom, stroke: mark.color, "stroke-dasharray": "2 3" }));
    svg.append(el("svg:circle", { cx: x(mark.t), cy: height - bottom, r: 3, fill: mark.color }));
  }
  for (const s of series) {
    const line = s.points.filter((p) => p.y !== null && p.y !== undefined).map((p) => `${x(p.t)},${y(p.y)}`);
    svg.append(el("svg:polyline", { points: line.join(" "), fill: "none", stroke: s.color, "stroke-width": 2, "stroke-linejoin": "round", ...(s.dash ? { "stroke-dasharray": "5 4" } : {}) }));
  }
  const hair = el("svg:line", { y1: top, y2: height - bottom, stroke: "var(--quiet)", visibility: "hidden" });
  svg.append(hair);
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const at = t0 + (((event.clientX - box.left) / box.width) * width - left) / (width - left - right) * (t1 - t0);
    const near = [...new Set(times)].reduce((a, b) => (Math.abs(b - at) < Math.abs(a - at) ? b : a));
    const lines = series.map((s) => [s.name, s.points.find((p) => p.t === near)?.y]).filter(([, v]) => v !== undefined && v !== null);
    const told = marks.filter((m) => Math.abs(m.t - near) < 3.5 * 864e5).map((m) => m.text);
    hair.setAttribute("x1", x(near));
    hair.setAttribute("x2", x(near));
    hair.setAttribute("visibility", "visible");
    $("tip").textContent = [new Date(near).toISOString().slice(0, 10), ...lines.map(([n, v]) => `${n}  ${number(v)}`), ...told].join("\n");
    $("tip").hidden = false;
    $("tip").style.left = `${Math.min(event.clientX + 14, innerWidth - 190)}px`;
    $("tip").style.top = `${event.clientY + 14}px`;
  });
  svg.addEventListener("pointerleave", () => {
    hair.setAttribute("visibility", "hidden");
    $("tip").hidden = true;
  });
  target.append(svg);
}

const ms = (t) => Date.parse(t);

function headline(view, runs) {
  if (!view.targets.length) return `${view.definition.name} has no version deployed yet.`;
  const trial = runs.find((run) => run.state === "canary");
  const working = runs.find((run) => run.state === "running" || run.state === "queued");
  const open = view.alerts.filter((alert) => alert.state === "open").length;
  const parts = [`${view.definition.name} answers with version ${view.champion}`];
  if (trial) parts.push(`version ${trial.challenger} is on trial with ${trial.rollout.percent} % of the traffic`);
  if (working) parts.push("a new version is being trained");
  parts.push(open ? `${open} alert${open > 1 ? "s are" : " is"} open` : "no alert is open");
  return `${parts.join("; ")}.`;
}

function tiles(view, runs, waiting) {
  const served = view.quality.filter((row) => row.version === "served" && row.auc !== null).at(-1);
  const label = view.status?.logged ? (100 * view.status.labelled) / view.status.logged : null;
  const all = [
    [day(view.status?.watermark), "event time reached"],
    [(view.status?.logged ?? 0).toLocaleString("en"), "predictions logged"],
    [label === null ? "–" : `${label.toFixed(0)} %`, "of them labelled"],
    [number(served?.auc), "AUC in the latest week"],
    [runs.filter((run) => run.cause.kind === "alert").length, "retrains by alert"],
    [waiting, "review tasks waiting"],
  ];
  $("tiles").replaceChildren(...all.map(([value, name]) => el("div", { class: "tile" }, el("b", {}, value), el("span", {}, name))));
}

function traffic(view) {
  const target = $("traffic");
  target.replaceChildren();
  if (!view.targets.length) return target.append(el("p", { class: "none" }, "no version deployed yet"));
  const bar = el("div", { class: "bar" });
  for (const share of view.targets) {
    const part = el("div", {}, `v${share.version}  ${share.percent} %`);
    part.style.flex = share.percent;
    part.style.background = share.version === view.champion ? "var(--served)" : "var(--trial)";
    bar.append(part);
  }
  const shadow = view.shadow.map((v) => `v${v}`).join(", ") || "none";
  target.append(bar, el("span", { class: "none" }, `champion v${view.champion}; scoring in the shadow: ${shadow}; changed ${view.revision} times`));
}

function quality(view, runs) {
  const rows = (version) => view.quality.filter((row) => row.version === version);
  const first = String(view.first_version);
  const line = (version, key) => rows(version).map((row) => ({ t: ms(row.bucket_start), y: row[key] }));
  const series = (key) => [
    { name: "served", color: "var(--served)", points: line("served", key) },
    ...(view.first_version ? [{ name: `v${first}, never retrained`, color: "var(--first)", dash: true, points: line(first, key) }] : []),
  ];
  const marks = runs.filter((run) => run.state === "promoted" && run.rollout).map((run) => ({ t: ms(run.ended ?? run.cutoff), text: `v${run.challenger} promoted`, color: "var(--good)" }));
  const legend = (text, color, dash) => {
    const stroke = el("i", dash ? { class: "dash" } : {});
    stroke.style.borderColor = color;
    return el("span", {}, stroke, text);
  };
  $("quality-legend").replaceChildren(
    legend("served", "var(--served)"),
    legend(`version ${first}, never retrained`, "var(--first)", true),
    legend("a version was promoted", "var(--good)", true),
  );
  chart($("auc"), series("auc"), marks);
  chart($("loss"), series("log_loss"), marks);
}

function drift(view) {
  const points = view.drift.map((p) => ({ t: ms(p.window_end), y: p.weighted_psi }));
  const marks = view.drift.filter((p) => p.fired.length).map((p) => ({ t: ms(p.window_end), text: p.fired.join(", ").replaceAll("_", " "), color: "var(--bad)" }));
  chart($("drift"), [{ name: "weighted PSI", color: "var(--served)", points }], marks, { zero: true, width: 1140 });
}

const RULES = { log_loss_rise: "log loss rose", bias: "scores are biased", weighted_psi: "inputs drifted" };

/** Why an alert has no run of its own. */
function answered(alert, runs) {
  const same = runs.find((run) => run.cause.kind === "alert" && Math.abs(ms(run.cutoff) - ms(alert.watermark)) < 864e5);
  if (same?.challenger) return `the run that made v${same.challenger} answers this alert too`;
  return "no run: cool-down, or too few new labels";
}

function decisions(view, runs) {
  const byEvent = new Map(runs.filter((run) => run.cause.event).map((run) => [run.cause.event, run]));
  const shown = new Set();
  const rows = view.alerts.map((alert) => {
    const run = byEvent.get(alert.event) ?? runs.find((r) => r.cause.kind === "alert" && !shown.has(r.id) && Math.abs(ms(r.cutoff) - ms(alert.watermark)) < 1000);
    if (run) shown.add(run.id);
    return { at: ms(alert.raised_at), cells: [day(alert.raised_at), RULES[alert.rule] ?? alert.rule, `${number(Math.abs(alert.value))} > ${number(alert.limit)}`, pill(alert.state), run ? pill(run.state) : "–", run?.challenger ? `v${run.challenger}` : "–", wide(run ? (run.rollout?.verdict ?? run.decision?.reason ?? run.error ?? "computing") : answered(alert, runs))] };
  });
  for (const run of runs.filter((r) => !shown.has(r.id))) {
    rows.push({ at: ms(run.cutoff), cells: [day(run.cutoff), run.cause.kind === "alert" ? "alert went on" : run.cause.note || run.cause.kind, "–", "–", pill(run.state), run.challenger ? `v${run.challenger}` : "–", wide(run.rollout?.verdict ?? run.decision?.reason ?? run.error ?? "computing")] });
  }
  rows.sort((a, b) => b.at - a.at);
  table($("decisions"), ["event time", "why", "value > limit", "alert", "run", "version", "decision"], rows.map((row) => row.cells), "no alert yet");
}

async function read(path) {
  const response = await fetch(path, { headers: { accept: "application/json" } });
  if (!response.ok) throw new Error((await response.json()).detail ?? response.status);
  return response.json();
}

async function refresh() {
  const overview = await read("/api/v1/overview");
  if (!overview.endpoints.length) {
    $("headline").textContent = "Nothing is defined yet: run `make demo`, or apply your own definitions with `millpond apply`.";
    return;
  }
  const names = overview.endpoints.map((endpoint) => endpoint.definition.name);
  if (!names.includes(chosen)) chosen = names[0];
  $("picker").hidden = names.length < 2;
  if ($("endpoint").options.length !== names.length) {
    $("endpoint").replaceChildren(...names.map((name) => el("option", name === chosen ? { selected: "" } : {}, name)));
  }
  const view = overview.endpoints.find((endpoint) => endpoint.definition.name === chosen);
  const runs = overview.runs.filter((run) => run.endpoint === chosen);
  const tasks = view.targets.length ? await read(`/api/v1/endpoints/${encodeURIComponent(chosen)}/review?limit=50`) : [];
  $("headline").textContent = headline(view, runs);
  tiles(view, runs, view.status?.open_tasks ?? tasks.length);
  traffic(view);
  quality(view, runs);
  drift(view);
  decisions(view, runs);
  table($("review"), ["event time", "key", "version", "score", "why"], tasks.slice(0, 12).map((task) => [minute(task.event_time), task.label_key ?? "–", `v${task.version}`, number(task.score), wide(task.why)]), "nothing waits");
  table($("events"), ["#", "event", "subject", "by", "cause"], overview.events.slice(0, 40).map((event) => [event.seq, event.kind, event.subject, event.actor, event.cause ?? "–"]), "nothing happened yet");
}

async function loop() {
  try {
    await refresh();
    $("live").textContent = `live, ${new Date().toLocaleTimeString("en-GB")}`;
  } catch (error) {
    $("live").textContent = `no answer: ${error.message}`;
  }
  setTimeout(loop, document.hidden ? 10000 : 2000);
}

$("endpoint").addEventListener("change", (event) => {
  chosen = event.target.value;
  refresh();
});
loop();
