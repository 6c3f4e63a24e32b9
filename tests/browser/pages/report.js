// What the page sees goes to the test that opened it.
const report = (kind, details) =>
  fetch("report", { method: "POST", body: JSON.stringify({ kind, details }) });

addEventListener("error", (event) => report("error", { script: event.message }));
addEventListener("unhandledrejection", (event) => report("error", { script: String(event.reason) }));
