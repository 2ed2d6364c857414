// Pages that stay true without being loaded again.
//
// Elements with `data-stream="/api/v1/…"` and an id follow that event stream: when it says `changed`, the page is fetched
// again and these elements are replaced by those with the same ids. A form with `data-results="ID"` does the same for one
// element with each letter that is typed into it. Focus, scrolling and what was folded open are kept.
(() => {
  "use strict";
  const status = (state, text) => {
    const element = document.getElementById("live");
    if (!element || element.textContent === text) return;
    element.dataset.state = state;
    element.textContent = text;
  };

  // How to find the focused element again in another version of `scope`: by id, by name within its form, or by its place
  // among the elements that look alike.
  const mark = (scope, element) => {
    if (!element || !scope.contains(element) || element === scope) return null;
    if (element.id) return (fresh) => fresh.querySelector(`#${CSS.escape(element.id)}`);
    const alike = element.getAttribute("href")
      ? `${element.localName}[href="${CSS.escape(element.getAttribute("href"))}"]`
      : element.localName;
    const place = [...scope.querySelectorAll(alike)].indexOf(element);
    return (fresh) => fresh.querySelectorAll(alike)[place] ?? null;
  };

  // Somebody is writing: what was typed is worth more than what is new.
  const beingEdited = (scope) => [...scope.querySelectorAll("input, textarea, select")].some((field) =>
    field === document.activeElement
    || (field.matches("input[type=checkbox], input[type=radio]") ? field.checked !== field.defaultChecked
      : field.localName === "select" ? field.selectedIndex !== Math.max(0, [...field.options].findIndex((o) => o.defaultSelected))
      : field.type !== "hidden" && field.value !== field.defaultValue));

  // What the server sent last, by id: other scripts may have changed the elements since.
  const served = new Map();
  const swap = (old, fresh) => {
    if (served.get(old.id) === fresh.outerHTML) return;
    served.set(old.id, fresh.outerHTML);
    const opened = new Map([...old.querySelectorAll("details[id]")].map((d) => [d.id, d.open]));
    for (const details of fresh.querySelectorAll("details[id]")) {
      if (opened.has(details.id)) details.open = opened.get(details.id);
    }
    const find = mark(old, document.activeElement);
    const scrolled = [...old.querySelectorAll("[id]"), old].filter((e) => e.scrollTop || e.scrollLeft)
      .map((e) => [e.id, e.scrollTop, e.scrollLeft]);
    const element = document.importNode(fresh, true);
    old.replaceWith(element);
    for (const [id, top, left] of scrolled) document.getElementById(id)?.scrollTo(left, top);
    find?.(element)?.focus({ preventScroll: true });
    document.dispatchEvent(new CustomEvent("windlass:swapped", { detail: { id: element.id } }));
  };

  const lost = new Set(); // Streams that are not connected.
  let signedOut = false;

  // The page at `url`, or null where it cannot be had; says so in the frame.
  const load = async (url, signal) => {
    try {
      const response = await fetch(url, { headers: { Accept: "text/html" }, signal });
      signedOut = response.redirected && new URL(response.url).pathname !== new URL(url, location.href).pathname;
      if (signedOut) {
        status("lost", "Signed out: load the page again");
        return null;
      }
      if (!response.ok) throw new Error(`HTTP ${response.status}`);
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      if (lost.size === 0 && served.size > 0) status("live", "Live");
      return page;
    } catch (error) {
      if (error.name !== "AbortError") status("lost", "Connection lost, trying again");
      return null;
    }
  };

  let pending = null;
  let loading = false;
  let again = false; // Something happened while the page was being fetched.
  let postponed = false; // Somebody writes, or nobody looks.
  const refresh = async () => {
    if (loading) { again = true; return; }
    loading = true;
    again = postponed = false;
    const fresh = await load(location.href);
    loading = false;
    if (!fresh) {
      if (!signedOut) setTimeout(soon, 5000);
      return;
    }
    for (const old of document.querySelectorAll("[data-stream][id]")) {
      const next = fresh.getElementById(old.id);
      if (!next) continue;
      if (beingEdited(old)) postponed = true;
      else swap(old, next);
    }
    if (again) soon();
  };
  // Many events in a row are one refresh.
  const soon = () => {
    if (document.hidden) postponed = true;
    else pending ??= setTimeout(() => { pending = null; refresh(); }, 300);
  };
  const resume = () => { if (postponed && !document.hidden) soon(); };
  document.addEventListener("visibilitychange", resume);
  document.addEventListener("focusout", resume);

  // One connection per address; a browser gives up for good when the server answers with an error, so that is tried again here.
  const follow = (address) => {
    let wait = 1000;
    // What happened since the page was made is not told by a stream that begins later.
    lost.add(address);
    const open = () => {
      const source = new EventSource(address);
      source.addEventListener("open", () => {
        wait = 1000;
        if (lost.delete(address)) soon(); // Something may have happened meanwhile.
        if (lost.size === 0) status("live", "Live");
      });
      source.addEventListener("changed", soon);
      source.addEventListener("error", () => {
        lost.add(address);
        status("lost", "Connection lost, trying again");
        if (source.readyState !== EventSource.CLOSED) return;
        setTimeout(open, wait * (0.75 + Math.random() / 2));
        wait = Math.min(wait * 2, 30000);
      });
      addEventListener("pagehide", () => source.close(), { once: true });
    };
    open();
  };

  const typing = (form) => {
    let timer = null;
    let last = null;
    const send = async () => {
      last?.abort();
      last = new AbortController();
      const fields = [...new FormData(form)].filter(([, value]) => value !== "");
      const url = new URL(form.getAttribute("action") || location.pathname, location.href);
      url.search = new URLSearchParams(fields).toString();
      const fresh = await load(url.href, last.signal);
      const [old, next] = [document.getElementById(form.dataset.results), fresh?.getElementById(form.dataset.results)];
      if (!old || !next) return;
      swap(old, next);
      history.replaceState(null, "", url);
    };
    form.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(send, 200); });
    form.addEventListener("submit", (event) => { event.preventDefault(); clearTimeout(timer); send(); });
  };

  document.addEventListener("DOMContentLoaded", () => {
    const results = [...document.querySelectorAll("form[data-results]")].map((form) => form.dataset.results);
    const ids = [...document.querySelectorAll("[data-stream][id]")].map((e) => e.id);
    for (const id of [...results, ...ids]) served.set(id, document.getElementById(id)?.outerHTML);
    const addresses = new Set([...document.querySelectorAll("[data-stream][id]")].map((e) => e.dataset.stream));
    for (const address of addresses) follow(address);
    for (const form of document.querySelectorAll("form[data-results]")) typing(form);
  });
  // A page that the browser kept and shows again has lost its connection.
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
})();
