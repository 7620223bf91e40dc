async function show() {
  const status = await (await fetch("/api/v1/status")).json();
  document.getElementById("about").textContent =
    `version ${status.version}, configuration ${status.generation}` +
    (status.config_file ? ` of ${status.config_file}` : "") + `, up ${Math.round(status.uptime_seconds)} s`;
  const rows = status.components.map(component => {
    const row = document.createElement("tr");
    for (const text of [component.name, component.state, component.listens.join(", "), component.restarts]) {
      row.insertCell().textContent = text;
    }
    row.cells[1].className = component.state;
    return row;
  });
  document.querySelector("#components tbody").replaceChildren(...rows);
}
show(); setInterval(show, 2000);
