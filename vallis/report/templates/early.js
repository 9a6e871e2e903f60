// Before anything is painted: that scripts run here, and the theme of the last visit where the browser remembers one.
(function () {
  "use strict";
  document.documentElement.classList.add("scripted");
  try {
    var chosen = window.localStorage.getItem("vallis-theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch (refused) { /* a browser may keep no memory for files: then the system's theme it is */ }
})();
