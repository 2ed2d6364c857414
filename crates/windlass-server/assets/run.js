// Times that come nearer are counted down.
(() => {
  "use strict";
  const words = (seconds) => {
    const pair = (large, unit, small, rest) => (small ? `${large} ${unit} ${small} ${rest}` : `${large} ${unit}`);
    if (seconds < 60) return `${seconds} s`;
    if (seconds < 3600) return pair(Math.floor(seconds / 60), "min", seconds % 60, "s");
    if (seconds < 86400) return pair(Math.floor(seconds / 3600), "h", Math.floor((seconds % 3600) / 60), "min");
    return pair(Math.floor(seconds / 86400), "d", Math.floor((seconds % 86400) / 3600), "h");
  };
  const count = () => {
    for (const time of document.querySelectorAll("time[data-countdown]")) {
      const left = Math.ceil(Number(time.dataset.countdown) / 1e6 - Date.now() / 1000);
      const text = left > 0 ? `in ${words(left)}` : "now";
      if (time.textContent !== text) time.textContent = text;
    }
  };
  count();
  setInterval(count, 1000);
})();
