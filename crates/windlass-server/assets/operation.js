// The form of an operation: when something changes that other fields depend on, the server fills the form again, and the fields
// that are different now are replaced. What somebody has typed meanwhile stays.
(() => {
  "use strict";
  const form = document.getElementById("operation-form");
  if (!form) return;
  const served = new Map([...form.querySelectorAll("[data-field]")].map((field) => [field.id, field.outerHTML]));
  const edits = new Map(); // How often each field was changed.
  let last = null;

  const fill = async () => {
    last?.abort();
    const own = last = new AbortController();
    const seen = new Map(edits);
    const body = new URLSearchParams();
    for (const [name, value] of new FormData(form)) if (typeof value === "string") body.append(name, value);
    form.setAttribute("aria-busy", "true");
    try {
      const response = await fetch(form.dataset.check, { method: "POST", body, headers: { Accept: "text/html" }, signal: own.signal });
      const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
      if (!response.ok || !fresh.getElementById("operation-form")) return;
      for (const [id, before] of served) {
        const [old, next] = [document.getElementById(id), fresh.getElementById(id)];
        if (!old || !next || next.outerHTML === before || edits.get(id) !== seen.get(id)) continue;
        served.set(id, next.outerHTML);
        const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
        old.replaceWith(document.importNode(next, true));
        if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
      }
      for (const id of ["operation-told", "operation-go"]) {
        const [old, next] = [document.getElementById(id), fresh.getElementById(id)];
        if (!old || !next || old.outerHTML === next.outerHTML) continue;
        if (id === "operation-told") old.replaceChildren(...document.importNode(next, true).childNodes);
        else old.disabled = next.disabled;
      }
    } catch (error) {
      if (error.name !== "AbortError") console.warn(error); // The form can be sent as it is.
    } finally {
      if (last === own) form.removeAttribute("aria-busy");
    }
  };
  form.addEventListener("input", (event) => {
    const id = event.target.closest("[data-field]")?.id;
    if (id) edits.set(id, (edits.get(id) ?? 0) + 1);
  });
  form.addEventListener("change", (event) => { if (event.target.closest("[data-depended]")) fill(); });
})();
