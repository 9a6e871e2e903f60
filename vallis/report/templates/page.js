// Draws the figures from the data in the page, in its theme, and again when the theme or the width changes.
(function () {
  "use strict";
  var root = document.documentElement;
  var page = JSON.parse(document.getElementById("vallis-data").textContent);
  var plots = Array.prototype.slice.call(document.querySelectorAll("[data-plot]"));
  var dark = window.matchMedia("(prefers-color-scheme: dark)");
  var coarse = window.matchMedia("(pointer: coarse)").matches;

  function themeName() {
    return root.dataset.theme || (dark.matches ? "dark" : "light");
  }

  // Tokens stand only under keys that name a colour, so a label that looks like one is left alone.
  function resolve(value, colours, key) {
    if (Array.isArray(value)) return value.map(function (held) { return resolve(held, colours, key); });
    if (value && typeof value === "object") {
      var copy = {};
      Object.keys(value).forEach(function (name) { copy[name] = resolve(value[name], colours, name); });
      return copy;
    }
    if (typeof value === "string" && key.indexOf("color") >= 0 && colours.hasOwnProperty(value)) return colours[value];
    return value;
  }

  function specOf(plot, theme) {
    var figure = page.figures[Number(plot.dataset.plot)];
    var spec = resolve({ data: figure.data, layout: figure.layout }, page.themes[theme], "");
    return webgl() ? spec : flattened(spec);
  }

  var canDraw3d = null;
  function webgl() {
    if (canDraw3d === null) {
      var canvas = document.createElement("canvas");
      canDraw3d = Boolean(canvas.getContext("webgl2") || canvas.getContext("webgl"));
    }
    return canDraw3d;
  }

  // Several surfaces have a scene each: "scene", "scene2" ...
  function scenesOf(layout) {
    return Object.keys(layout).filter(function (name) { return /^scene\d*$/.test(name); });
  }

  // Without WebGL a surface is shown from above: the same numbers, the same colours.
  function flattened(spec) {
    var scenes = scenesOf(spec.layout);
    if (!scenes.length) return spec;
    spec.data = spec.data.map(function (trace) {
      if (trace.type !== "surface") return trace;
      var number = (trace.scene || "scene").slice(5);
      return {
        xaxis: "x" + number, yaxis: "y" + number,
        type: "heatmap", x: trace.x, y: trace.y, z: trace.surfacecolor, customdata: trace.z, colorscale: trace.colorscale,
        zmin: trace.cmin, zmax: trace.cmax, colorbar: trace.colorbar,
        hovertemplate: trace.hovertemplate.replace("%{z:", "%{customdata:")
      };
    });
    scenes.forEach(function (name) {
      var scene = spec.layout[name], number = name.slice(5);
      ["x", "y"].forEach(function (letter) {
        var axis = scene[letter + "axis"], flat = { title: axis.title, type: axis.type, automargin: true, showgrid: false, zeroline: false };
        if (scene.domain) {
          var ends = scene.domain[letter], gap = letter === "x" ? 0.06 : 0;
          flat.domain = [ends[0] + (ends[0] > 0 ? gap : 0), ends[1] - (ends[1] < 1 && letter === "x" ? gap : 0)];
        }
        if (number) flat.anchor = (letter === "x" ? "y" : "x") + number;
        spec.layout[letter + "axis" + number] = flat;
      });
      delete spec.layout[name];
    });
    return spec;
  }

  function heightOf(plot, spec, width) {
    if (spec.layout.meta && spec.layout.meta.aspect) {
      return Math.round(Math.min(width * spec.layout.meta.aspect, 560)) + 24;
    }
    var scenes = scenesOf(spec.layout).length;
    if (scenes > 1) return Math.round(width < 480 ? scenes * width * 0.85 : Math.max(290, Math.min(0.95 * width / scenes, 540)));
    return Math.round(Math.max(290, Math.min(width * (scenes ? (width < 480 ? 0.85 : 0.72) : 0.56), scenes ? 540 : 430)));
  }

  function fitted(plot, spec) {
    var width = plot.clientWidth;
    spec.layout.width = width;
    spec.layout.height = heightOf(plot, spec, width);
    spec.layout.uirevision = "kept";
    // A finger that scrolls past must not zoom; there is a button for those who want to.
    if (coarse && !spec.layout.scene) spec.layout.dragmode = plot.dataset.zoom === "on" ? "zoom" : false;
    if (width < 480) narrowed(spec);
    return spec;
  }

  function narrowed(spec) {
    spec.layout.font.size = 12;
    spec.data.forEach(function (trace) {
      if (!trace.colorbar) return;
      trace.colorbar = Object.assign({}, trace.colorbar, { thickness: 8, len: 1, xpad: 4 });
      trace.colorbar.title = Object.assign({}, trace.colorbar.title, { text: "" });
    });
    if (spec.layout.xaxis2) {  // labels side by side need two lines each
      Object.keys(spec.layout).forEach(function (name) {
        var title = /^xaxis\d*$/.test(name) && spec.layout[name].title;
        if (title) title.text = title.text.replace(/ (\S+ \S+)$/, "<br>$1");
      });
    }
    var scenes = scenesOf(spec.layout);
    scenes.forEach(function (name, place) {
      var scene = spec.layout[name];
      ["xaxis", "yaxis", "zaxis"].forEach(function (axis) {
        scene[axis].nticks = 4;
        scene[axis].title.font.size = 10;
      });
      if (scenes.length === 1) {
        ["x", "y", "z"].forEach(function (letter) { scene.camera.eye[letter] *= 1.38; });
        return;
      }
      // One above the other: side by side they would be as small as stamps.
      var top = 1 - place / scenes.length;
      scene.domain = { x: [0, 1], y: [top - 1 / scenes.length, top - 0.08 / scenes.length] };
      Object.assign(spec.layout.annotations[place], { x: 0.5, y: top });
    });
  }

  function draw(plot) {
    var spec = fitted(plot, specOf(plot, themeName()));
    var config = { displayModeBar: false, displaylogo: false, doubleClick: "reset", showTips: false };
    return Promise.resolve().then(function () {
      return window.Plotly.react(plot, spec.data, spec.layout, config);
    }).then(function () {
      plot.dataset.drawn = "yes";
    }, function (error) {  // one figure that fails must not keep the others from being drawn
      plot.dataset.drawn = "no";
      plot.textContent = "This figure could not be drawn (" + error.message + "); its data is behind the button CSV.";
    });
  }

  // What is exported and printed: on white, in the light theme, with the axes and the camera as they are now.
  function still(plot, format, wide, title) {
    var spec = specOf(plot, "light");
    var now = plot.layout || {};
    Object.keys(now).forEach(function (name) {
      if (/^[xy]axis\d*$/.test(name) && now[name].range && spec.layout[name]) {
        spec.layout[name].range = now[name].range.slice();
        spec.layout[name].autorange = false;
      }
    });
    scenesOf(spec.layout).forEach(function (name) {
      if (now[name] && now[name].camera) spec.layout[name].camera = now[name].camera;
    });
    var height = heightOf(plot, spec, wide);
    var size = { format: format, width: wide, height: height, scale: format === "png" ? 2 : 1 };
    spec.layout.width = wide;
    spec.layout.height = height;
    spec.layout.paper_bgcolor = "#ffffff";
    if (title) {
      spec.layout.title = { text: title, x: 0, xref: "container", xanchor: "left", pad: { l: 16, t: 14 }, yanchor: "top", y: 1 };
      spec.layout.title.font = { size: 16 };
      spec.layout.margin.t = 64;
    }
    return window.Plotly.toImage(spec, size);
  }

  function save(address, name) {
    var link = document.createElement("a");
    link.href = address;
    link.download = name;
    document.body.appendChild(link);
    link.click();
    link.remove();
  }

  // A grid comes in short: its rows are written out here.
  function csvOf(figure) {
    return figure.csv.map(function (piece) {
      if (typeof piece === "string") return piece;
      return piece.z.map(function (row, across) {
        return row.split(",").map(function (height, along) {
          return [piece.head, piece.x[along], piece.y[across], height].join(",") + ",,,\n";
        }).join("");
      }).join("");
    });
  }

  function press(button) {
    var plot = document.getElementById(button.getAttribute("aria-controls"));
    var figure = page.figures[Number(plot.dataset.plot)];
    var wanted = button.dataset.do;
    if (wanted === "csv") {
      var address = URL.createObjectURL(new Blob(csvOf(figure), { type: "text/csv;charset=utf-8" }));
      save(address, figure.file + ".csv");
      window.setTimeout(function () { URL.revokeObjectURL(address); }, 10000);
    } else if (wanted === "reset") {
      window.Plotly.purge(plot);
      busy(draw(plot));
    } else if (wanted === "zoom") {
      plot.dataset.zoom = plot.dataset.zoom === "on" ? "off" : "on";
      button.setAttribute("aria-pressed", String(plot.dataset.zoom === "on"));
      busy(draw(plot));
    } else {
      still(plot, wanted, 800, figure.title).then(function (image) { save(image, figure.file + "." + wanted); });
    }
  }

  // Printing cannot wait for a drawing, so each figure keeps a still of itself that only paper shows.
  function keepStill(plot) {
    var format = page.figures[Number(plot.dataset.plot)].layout.scene && webgl() ? "png" : "svg";
    return still(plot, format, 720).then(function (address) {
      var image = plot.parentNode.querySelector(".still") || document.createElement("img");
      image.className = "still";
      image.alt = plot.getAttribute("aria-label");
      image.src = address;
      plot.parentNode.insertBefore(image, plot.nextSibling);
      plot.parentNode.classList.add("has-still");
    }, function () { /* then the figure itself is printed */ });
  }

  function oneByOne(list, work) {
    return list.reduce(function (before, item) {
      return before.then(function () { return work(item); }).then(function () {
        return new Promise(function (go) { window.setTimeout(go, 0); });  // lets the page answer in between
      });
    }, Promise.resolve());
  }

  // What is quick to draw goes first; a surface takes a second.
  function redraw() {
    function deep(plot) { return Boolean(page.figures[Number(plot.dataset.plot)].layout.scene); }
    return busy(oneByOne(plots.filter(function (plot) { return !deep(plot); }).concat(plots.filter(deep)), draw));
  }

  // Says on the root element whether anything is still being drawn.
  var working = 0;
  function busy(work) {
    working += 1;
    root.dataset.ready = "no";
    return work.then(function () {
      working -= 1;
      if (working === 0) root.dataset.ready = "yes";
    });
  }

  function watchWidth() {
    var width = root.clientWidth, waiting = 0;
    window.addEventListener("resize", function () {
      if (root.clientWidth === width) return;
      width = root.clientWidth;
      window.clearTimeout(waiting);
      waiting = window.setTimeout(redraw, 120);
    });
  }

  function themeButton() {
    var button = document.getElementById("theme");
    function say() {
      var other = themeName() === "dark" ? "light" : "dark";
      button.setAttribute("aria-label", "Switch to the " + other + " theme");
      button.title = button.getAttribute("aria-label");
    }
    button.hidden = false;
    button.addEventListener("click", function () {
      root.dataset.theme = themeName() === "dark" ? "light" : "dark";
      try { window.localStorage.setItem("vallis-theme", root.dataset.theme); } catch (refused) { /* see early.js */ }
      say();
      redraw();
    });
    dark.addEventListener("change", function () { say(); redraw(); });
    say();
  }

  function markWhereWeAre() {
    var links = Array.prototype.slice.call(document.querySelectorAll(".contents a"));
    if (!links.length || !("IntersectionObserver" in window)) return;
    var seen = new IntersectionObserver(function (entries) {
      entries.forEach(function (entry) {
        if (!entry.isIntersecting) return;
        links.forEach(function (link) {
          if (link.getAttribute("href") === "#" + entry.target.id) link.setAttribute("aria-current", "true");
          else link.removeAttribute("aria-current");
        });
      });
    }, { rootMargin: "-10% 0px -75% 0px" });
    links.forEach(function (link) {
      var target = document.getElementById(link.getAttribute("href").slice(1));
      if (target) seen.observe(target);
    });
  }

  document.addEventListener("click", function (event) {
    var button = event.target.closest ? event.target.closest("button[data-do]") : null;
    if (button) press(button);
  });
  themeButton();
  markWhereWeAre();
  watchWidth();
  root.classList.add("live");
  busy(redraw().then(function () { return oneByOne(plots, keepStill); }));
})();
