// Every page: the theme that was chosen, keyboard shortcuts, forms that are sent when a choice is made.
// Loaded in the head without `defer`, so that the theme is set before anything is drawn.
(() => {
  "use strict";
  const root = document.documentElement;
  const themes = { auto: "system", light: "light", dark: "dark" };
  const stored = () => {
    try {
      const theme = localStorage.getItem("theme");
      return Object.hasOwn(themes, theme) ? theme : "auto";
    } catch {
      return "auto"; // A browser may refuse storage.
    }
  };
  const show = (theme) => {
    if (theme === "auto") delete root.dataset.theme;
    else root.dataset.theme = theme;
  };
  show(stored());

  const sections = { h: "/", s: "/stacks", o: "/operations", v: "/reviews", r: "/runs", e: "/events", t: "/settings" };
  let afterG = 0;

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    if (button) {
      let theme = stored();
      const label = () => { button.textContent = `Theme: ${themes[theme]}`; };
      label();
      button.hidden = false;
      button.addEventListener("click", () => {
        const names = Object.keys(themes);
        theme = names[(names.indexOf(theme) + 1) % names.length];
        try { localStorage.setItem("theme", theme); } catch { /* Then it holds for this page. */ }
        show(theme);
        label();
      });
    }
    for (const form of document.querySelectorAll("form[data-submit-on-change]")) {
      for (const button of form.querySelectorAll("button")) button.hidden = true;
      form.addEventListener("change", () => form.requestSubmit());
    }
  });

  // What cannot be taken back is asked for once more.
  document.addEventListener("submit", (event) => {
    const question = event.submitter?.dataset.confirm ?? event.target.dataset.confirm;
    if (question && !window.confirm(question)) event.preventDefault();
  });

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
    if (event.target instanceof Element && event.target.closest("input, textarea, select, [contenteditable], dialog")) return;
    const signedIn = document.getElementById("shortcuts");
    if (!signedIn) return;
    if (event.key === "?") {
      event.preventDefault();
      signedIn.showModal();
    } else if (event.key === "/") {
      const filter = document.querySelector("input[type=search]");
      if (!filter) return;
      event.preventDefault();
      filter.focus();
      filter.select();
    } else if (event.key === "g") {
      afterG = event.timeStamp;
      return;
    } else if (Object.hasOwn(sections, event.key) && event.timeStamp - afterG < 1500) {
      // The link of the frame, so that the chosen repository is kept.
      const link = document.querySelector(`.frame nav a[href="${sections[event.key]}"], .frame nav a[href^="${sections[event.key]}?"]`);
      event.preventDefault();
      location.assign(link ? link.href : sections[event.key]);
    }
    afterG = 0;
  });
})();
