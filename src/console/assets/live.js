// Live updates: requests the page again every five seconds, or every second while an action runs, and replaces its
// content. Without this script the pages are the same, and "look again" does it by hand. The content stays while a
// person works in it, and while the page is in the background.
(() => {
  const content = document.querySelector("main[data-live]");
  if (!content) return;
  const running = () => content.querySelector("[data-running]") !== null;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "plain live";
  let on = running() || sessionStorage.getItem("live") === "on";
  const say = () => {
    button.setAttribute("aria-pressed", String(on));
    button.textContent = on ? "Live: on" : "Live: off";
  };
  button.addEventListener("click", () => {
    on = !on;
    sessionStorage.setItem("live", on ? "on" : "off");
    say();
    if (on) refresh();
  });
  say();
  document.querySelector("footer").append(button);

  // One request at a time: a slow answer is not requested again.
  let reading = false;
  const busy = () => document.hidden || content.contains(document.activeElement) || String(getSelection()) !== "";
  async function refresh() {
    if (!on || reading || busy()) return;
    reading = true;
    try {
      const answer = await fetch(location.href, { credentials: "same-origin", signal: AbortSignal.timeout(35000) });
      if (!answer.ok) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.querySelector("main");
      const opened = [...content.querySelectorAll("details")].map((one) => one.open);
      content.replaceChildren(...fresh.childNodes);
      content.querySelectorAll("details").forEach((one, at) => (one.open = opened[at] ?? one.open));
    } catch {
      // The console does not answer. The next turn tries again.
    } finally {
      reading = false;
    }
  }
  setInterval(refresh, running() ? 1000 : 5000);
})();
