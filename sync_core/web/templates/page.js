(() => {
  "use strict";
  // A form that is sent twice by a nervous finger is sent once.
  document.addEventListener("submit", (event) => {
    if (event.target.method === "post") setTimeout(() => event.target.querySelectorAll("button").forEach((each) => { each.disabled = true; }));
  });

  // The status page fetches itself; everything works without this, by reloading.
  const control = document.getElementById("refresh");
  if (!control) return;
  const note = document.getElementById("refresh-note"), EVERY = 30000;
  let paused = false, asking = false;

  const parts = () => document.getElementById("parts");
  const tell = (text) => { if (note.textContent !== text) note.textContent = text; };
  const inTheWay = () => {
    const at = document.activeElement, chosen = document.getSelection();
    if (at.closest("form")) return "a form is being filled in";
    if (!chosen.isCollapsed && parts().contains(chosen.anchorNode)) return "text is selected";
    return "";
  };
  const same = (fresh, each) => each.id && fresh.querySelector(`[id="${CSS.escape(each.id)}"]`);

  const show = (page) => {
    const old = parts(), fresh = page.getElementById("parts"), at = document.activeElement;
    if (!fresh) return "the answer was not this page";
    const focus = old.contains(at) ? same(fresh, at) : null;
    if (old.contains(at) && !focus) return "what has the focus would be gone";
    const kept = [...old.querySelectorAll(".scroll[id]")].map((each) => [each.id, each.scrollLeft]);
    old.replaceWith(document.adoptNode(fresh));
    for (const [id, left] of kept) { const each = document.getElementById(id); if (each) each.scrollLeft = left; }
    if (focus) focus.focus({ preventScroll: true });
    const verdict = document.getElementById("verdict"), next = page.getElementById("verdict");
    if (verdict.textContent !== next.textContent) {
      verdict.className = next.className;
      verdict.replaceChildren(...next.childNodes);
    }
    document.title = page.title;
    return "";
  };

  const refresh = async () => {
    if (paused || asking || document.hidden) return;
    let why = inTheWay();
    if (!why) {
      asking = true;
      try {
        const answer = await fetch(location.href, { cache: "no-store", redirect: "error" });
        why = answer.ok ? "" : `the answer was ${answer.status}`;
        if (!why) {
          const text = (await answer.text()).replace(/<style[^]*?<\/style>/, ""); // it has another nonce than ours
          const page = new DOMParser().parseFromString(text, "text/html");
          why = paused ? "" : inTheWay() || show(page);
        }
      } catch {
        why = "there was no answer";
      }
      asking = false;
    }
    if (!paused) tell(why ? `Not refreshed just now: ${why}.` : "Refreshes every 30 seconds.");
  };

  control.hidden = false;
  tell("Refreshes every 30 seconds.");
  control.addEventListener("click", () => {
    paused = !paused;
    control.textContent = paused ? "Go on refreshing" : "Pause refreshing";
    tell(paused ? "Refreshing is paused." : "Refreshes every 30 seconds.");
    if (!paused) refresh();
  });
  document.addEventListener("visibilitychange", refresh);
  setInterval(refresh, EVERY);
})();
