// The dashboard: asks the API beside it for the last run, the locations and one report, and draws them.
// Whatever the API says is inserted as text, never as markup. It is asked through api.js.
"use strict";

const POLL_MILLISECONDS = 5000;
const ROWS_SHOWN = 200;
const STATUSES = {
  TEMPERATURE_TOO_LOW: "too low", OK: "OK", TEMPERATURE_TOO_HIGH: "too high", TEMPERATURE_CRITICAL: "critical",
};

const $ = id => document.getElementById(id);
// `reported` is the run that the shown report was asked for in.
const state = { run: null, locations: [], chosen: null, report: null, reported: null, chart: null, busy: false, refused: false };

// ---- What is shown

async function refresh() {
  if (state.busy) return;
  state.busy = true;
  try {
    const run = await get("runs/latest");
    if (run !== state.run || !run) await showRun(run);
    state.refused = false;
    if (run) say(`Checked at ${new Date().toISOString().slice(11, 19)} UTC.`);
    else say("No run has been committed yet. Averages appear here after the first one.");
    if (run !== state.reported || !run) await showReport();
  } catch (error) {
    if (error instanceof Refused) askForToken(error);
    else say(`No fresh figures: ${error.message}. Trying again.`, true);
  } finally {
    state.busy = false;
  }
}

async function showRun(run) {
  const answer = run ? await get("locations") : null;
  state.locations = answer ? answer.locations : [];
  if (!state.locations.some(location => location.location_id === state.chosen)) {
    state.chosen = state.locations.map(location => location.location_id).find(hasReportPath) ?? null;
  }
  drawRun(run);
  drawLocations(run);
  // Last: when anything above fails, the next round tries all of it again.
  state.run = run;
}

// After the list and apart from it: one location's report may fail, and the next round asks for it again.
async function showReport() {
  const { chosen, run } = state;
  let [report, reported, note] = [null, run, whyNotAsked(chosen)];
  if (chosen !== null && !note) {
    try {
      report = await get(reportPath(chosen));
      if (!report) note = "This location has no report.";
    } catch (error) {
      if (error instanceof Refused) throw error;
      // The last chart of the same location is better than none.
      if (state.report?.location_id === chosen) report = state.report;
      reported = null;
      note = `No fresh report: ${error.message}. Trying again.`;
    }
  }
  // Another location may have been chosen while this one's report was on its way.
  if (chosen !== state.chosen) return;
  Object.assign(state, { report, reported });
  $("chart-note").textContent = note;
  drawReport();
}

function whyNotAsked(id) {
  if (id === null) return state.locations.length ? "Choose a location to see its chart." : "";
  return hasReportPath(id) ? "" : `No chart: browsers cannot ask for the report of a location named “${id}”.`;
}

async function choose(id) {
  Object.assign(state, { chosen: id, reported: null });
  history.replaceState(null, "", `#${encodeURIComponent(id)}`);
  drawLocations(state.run);
  try {
    await showReport();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    askForToken(error);
  }
}

// ---- Text

function say(text, isProblem = false) {
  $("message").textContent = text;
  $("message").classList.toggle("problem", isProblem);
}

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

const count = number => number.toLocaleString("en");
const counted = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
const celsius = number => (number === null || number === undefined ? "–" : `${number.toFixed(2)} °C`);
const utc = text => (text ? text.slice(0, 16).replace("T", " ") : "–");

function statusOf(average, limits) {
  const found = Object.entries(limits).find(([, limit]) => average < limit);
  return found ? found[0] : "TEMPERATURE_CRITICAL";
}

function drawRun(run) {
  const facts = [["Started, UTC", run ? utc(run.started_at) : "–", run ? run.run_id : "no run yet"]];
  // A token that is limited to locations is told no figures.
  if (run?.counts) facts.push(
    ["Measurements", count(run.counts.measurements), `${count(run.totals.measurements)} in all runs`],
    ["Duplicates", count(run.counts.duplicates), `${count(run.totals.duplicates)} in all runs`],
    ["Arrived late", count(run.counts.late), `${count(run.totals.late)} in all runs`],
    ["Quarantined", count(run.quarantined), "objects in quarantine"],
    ["Broken sensors", count(run.newly_broken_sensors), `${count(run.broken_sensors)} in all runs`],
    ["Locations", count(run.locations), "had measurements"],
  );
  $("run").replaceChildren(...facts.map(([name, value, note]) => {
    const fact = element("div");
    const dd = element("dd", value);
    dd.append(element("small", note));
    fact.append(element("dt", name), dd);
    return fact;
  }));
}

// ---- Locations

function drawLocations(run) {
  const wanted = $("filter").value.trim().toLowerCase();
  const matching = state.locations.filter(location => location.location_id.toLowerCase().includes(wanted));
  const focused = document.activeElement?.dataset?.location;
  const rows = matching.slice(0, ROWS_SHOWN).map(location => locationRow(location, run));
  $("locations").replaceChildren(...rows);
  if (focused !== undefined) rows.find(row => row.button.dataset.location === focused)?.button.focus();
  const hidden = matching.length - rows.length;
  $("locations-note").textContent = !matching.length ? "No location to show."
    : hidden ? `${count(hidden)} more: narrow the names down.` : `${count(matching.length)} shown.`;
}

function locationRow(location, run) {
  const row = element("tr", undefined, location.location_id === state.chosen ? "chosen" : "");
  row.button = element("button", location.location_id);
  row.button.type = "button";
  row.button.dataset.location = location.location_id;
  row.button.setAttribute("aria-pressed", String(location.location_id === state.chosen));
  row.button.addEventListener("click", () => choose(location.location_id));
  const name = element("th");
  name.scope = "row";
  name.append(row.button);
  const status = element("td");
  if (location.moving_average !== null && run) {
    const code = statusOf(location.moving_average, run.status_below_celsius);
    status.append(element("span", STATUSES[code] ?? code, `status ${code}`));
  }
  row.append(name, status, element("td", celsius(location.moving_average), "number"), element("td", utc(location.last_timestamp)));
  return row;
}

function moveAmongLocations(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step || document.activeElement?.dataset?.location === undefined) return;
  const buttons = [...$("locations").querySelectorAll("button")];
  buttons[buttons.indexOf(document.activeElement) + step]?.focus();
  event.preventDefault();
}

// ---- The chart

function shownMinutes() {
  const minutes = state.report ? state.report.minutes : [];
  const hours = Number($("hours").value);
  if (!hours || !minutes.length) return minutes;
  const first = Date.parse(minutes.at(-1).timestamp) - hours * 3600_000;
  return minutes.filter(minute => Date.parse(minute.timestamp) > first);
}

function columns(minutes, window_minutes) {
  const [times, means, averages] = [[], [], []];
  for (const minute of minutes) {
    const time = Date.parse(minute.timestamp) / 1000;
    // A line across a window without any measurement would tell what nobody measured.
    if (times.length && time - times.at(-1) > 60 * window_minutes) {
      times.push(times.at(-1) + 60);
      means.push(null);
      averages.push(null);
    }
    times.push(time);
    means.push(minute.mean);
    averages.push(minute.moving_average);
  }
  return [times, means, averages];
}

function drawReport() {
  const report = state.report;
  $("chart-heading").textContent = state.chosen === null ? "Chart" : `Location ${state.chosen}`;
  $("figures").textContent = report
    ? `${counted(report.sensors, "sensor")}, ${counted(report.measurements, "measurement")} (${count(report.late)} arrived late), ${counted(report.duplicates, "duplicate")} since its first run`
    : "";
  const minutes = shownMinutes();
  drawChart(minutes, report ? report.window_minutes : 1);
  $("minutes").replaceChildren(...minutes.slice(-60).reverse().map(minuteRow));
}

function minuteRow(minute) {
  const row = element("tr");
  row.append(element("td", utc(minute.timestamp)), element("td", count(minute.count), "number"));
  for (const name of ["mean", "min", "max", "moving_average"]) row.append(element("td", celsius(minute[name]), "number"));
  return row;
}

function drawChart(minutes, window_minutes) {
  state.chart?.destroy();
  state.chart = null;
  if (!minutes.length) return;
  const color = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const clock = seconds => new Date(seconds * 1000).toISOString().slice(11, 16);
  const value = (_, number) => celsius(number);
  const axis = { stroke: color("--dim"), grid: { stroke: color("--line"), width: 1 }, ticks: { stroke: color("--line") } };
  state.chart = new uPlot({
    width: $("chart").clientWidth, height: 300,
    tzDate: seconds => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
    series: [
      { label: "UTC", value: (_, seconds) => (seconds === null ? "–" : clock(seconds)) },
      { label: "minute mean", stroke: color("--mean"), width: 1, points: { show: minutes.length < 300, size: 4 }, value },
      { label: `${window_minutes} min moving average`, stroke: color("--average"), width: 2.5, points: { show: minutes.length < 2 }, value },
    ],
    // No tick between two minutes: there is nothing.
    axes: [{ ...axis, values: (_, ticks) => ticks.map(clock), incrs: [1, 2, 5, 10, 30, 60, 120, 360, 720, 1440].map(m => m * 60) }, { ...axis, label: "°C", labelSize: 20, size: 56 }],
  }, columns(minutes, window_minutes), $("chart"));
}

function moveAlongChart(event) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  const chart = state.chart;
  if (!step || !chart) return;
  const times = chart.data[0];
  const index = Math.min(Math.max((chart.cursor.idx ?? times.length) + step, 0), times.length - 1);
  chart.setCursor({ left: chart.valToPos(times[index], "x"), top: 10 });
  event.preventDefault();
}

// ---- The token

function askForToken(refused) {
  // Another one was entered while the answer was on its way.
  if (refused.token !== heldToken()) return;
  holdToken(null);
  say(`${refused.message} Use the button Token to enter one.`, true);
  $("token-reason").textContent = refused.message;
  // Asked once: who closes the dialog is not asked again every few seconds.
  if (!state.refused && !$("token-dialog").open) $("token-dialog").showModal();
  state.refused = true;
}

function takeToken(event) {
  event.preventDefault();
  holdToken($("token").value.trim());
  $("token").value = "";
  $("token-dialog").close();
  startOver();
}

// ---- The page

function startOver() {
  Object.assign(state, { run: null, reported: null, refused: false });
  refresh();
}

function listen() {
  $("refresh").addEventListener("click", startOver);
  $("filter").addEventListener("input", () => drawLocations(state.run));
  $("hours").addEventListener("change", drawReport);
  $("locations").addEventListener("keydown", moveAmongLocations);
  $("chart").addEventListener("keydown", moveAlongChart);
  $("change-token").addEventListener("click", () => $("token-dialog").showModal());
  $("close-token").addEventListener("click", () => $("token-dialog").close());
  $("token-form").addEventListener("submit", takeToken);
  // The same link, opened in the tab that shows the page already.
  addEventListener("hashchange", () => {
    if (!takeTokenFromAddress()) return;
    $("token-dialog").close();
    startOver();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawReport);
  new ResizeObserver(() => state.chart?.setSize({ width: $("chart").clientWidth, height: 300 })).observe($("chart"));
  refreshLater();
}

// At random, so that the pages of many people do not ask in step after all of them failed together.
function refreshLater() {
  setTimeout(() => {
    if ($("auto-refresh").checked && !document.hidden && !state.refused) refresh();
    refreshLater();
  }, POLL_MILLISECONDS * (0.5 + Math.random()));
}

try {
  state.chosen = decodeURIComponent(location.hash.slice(1)) || null;
} catch (error) {
  // An address that somebody cut short.
  if (!(error instanceof URIError)) throw error;
}
listen();
refresh();
