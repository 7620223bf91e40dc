// Asked again so soon after an answer, and given up as gone after so long without one.
const pause = 1000, patience = 2000;
const about = document.getElementById("about");
const body = document.querySelector("#components tbody");
let heard;

async function show() {
  try {
    const answer = await fetch("/api/v1/status", { signal: AbortSignal.timeout(patience), cache: "no-store" });
    if (!answer.ok) return tell(`the lab does not say how it is: ${answer.status} ${answer.statusText}`, "no answer");
    const status = await answer.json();
    heard = new Date();
    if (!status.components.length) return tell("the lab is stopping", "stopping");
    about.className = "";
    about.textContent =
      `version ${status.version}, configuration ${status.generation}` +
      (status.config_file ? ` of ${status.config_file}` : "") + `, up ${Math.round(status.uptime_seconds)} s`;
    const rows = status.components.map(component => {
      const row = document.createElement("tr");
      for (const text of [component.name, component.state, component.listens.join(", "), component.restarts]) {
        row.insertCell().textContent = text;
      }
      row.cells[1].className = component.state;
      row.cells[1].title = component.reasons.join("; ");
      return row;
    });
    body.replaceChildren(...rows);
    document.title = status.components.every(component => component.state === "up") ? "labnet" : "labnet (not ready)";
  } catch {
    tell("gone: the lab does not answer" + (heard ? ` since ${heard.toLocaleTimeString()}` : ""), "gone");
  }
}

// What the table said is true no more.
function tell(text, state) {
  about.className = "gone";
  about.textContent = text;
  document.title = `labnet (${state})`;
  for (const row of body.rows) {
    row.cells[1].textContent = state;
    row.cells[1].className = "gone";
  }
}

async function watch() {
  await show();
  setTimeout(watch, pause);
}
watch();
