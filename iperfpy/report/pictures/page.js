"use strict";
(() => {
  const values = JSON.parse(document.getElementById("values").textContent);
  const timelines = values.timelines.map((one) => ({ ...one, charts: [] }));
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const AXIS = 52, RIGHT = 16;
  const HELP = matchMedia("(hover: none)").matches ? "Touch a panel to read its values."
    : "Arrow keys move the cursor, + and - zoom, 0 shows all; with a mouse: drag to zoom, double-click for all.";

  // A number with three significant digits, and commas between thousands.
  const short = (value) => {
    if (value == null) return "--";
    const size = value === 0 ? 0 : Math.floor(Math.log10(Math.abs(value)));
    return value.toLocaleString("en", { maximumFractionDigits: Math.max(0, 2 - size) });
  };
  const seconds = (value) => value.toLocaleString("en", { maximumFractionDigits: 2 });

  // The dashes of a line as the background of its mark in the legend. No style of a border has dash and dot.
  const dashes = (stroke, dash) => {
    if (!dash?.length) return stroke;
    let at = 0;
    const parts = dash.map((length, place) => `${place % 2 ? "transparent" : stroke} ${at}px ${at += length}px`);
    return `repeating-linear-gradient(90deg, ${parts.join(", ")})`;
  };

  // Each interval's value holds until the next interval begins, so that the last one is drawn to its end.
  const held = (list) => list.concat(list.slice(-1));

  const faded = (name) => {
    const [r, g, b] = [1, 3, 5].map((at) => parseInt(colour(name).slice(at, at + 2), 16));
    return `rgba(${r},${g},${b},${dark.matches ? 0.22 : 0.18})`;
  };

  function seriesOf(panel) {
    const series = [{}], data = [], bands = [];
    const steps = uPlot.paths.stepped({ align: 1 });
    for (const trace of panel.traces) {
      const index = series.length;
      series.push({
        label: trace.name || "value",
        stroke: colour(`--c${trace.slot}`),
        width: 2,
        dash: values.looks[trace.slot].dash,
        paths: steps,
        points: { show: false },
        value: (chart, value, at, i) => {
          if (value == null) return "--";
          const range = trace.lows && i != null && trace.lows[i] != null
            ? ` (${short(trace.lows[i])} to ${short(trace.highs[i] ?? null)})` : "";
          return `${short(value)}${panel.unit ? " " + panel.unit : ""}${range}`;
        },
      });
      data.push(held(trace.values));
      if (trace.lows) {
        for (const bound of [trace.highs, trace.lows]) {
          series.push({ class: "bound", label: "", stroke: "transparent", paths: steps, points: { show: false } });
          data.push(held(bound));
        }
        bands.push({ series: [index + 1, index + 2], fill: faded(`--c${trace.slot}`) });
      }
    }
    return { series, data, bands };
  }

  function draw(timeline, panel, figure, number) {
    const place = figure.querySelector(".plot");
    const xs = timeline.starts.concat([timeline.end]);
    const { series, data, bands } = seriesOf(panel);
    const axis = {
      stroke: colour("--soft"),
      grid: { stroke: colour("--rule"), width: 1 },
      ticks: { stroke: colour("--rule"), width: 1, size: 5 },
      font: "12px system-ui, sans-serif",
    };
    const chart = new uPlot({
      width: place.clientWidth,
      height: innerWidth > 560 ? 170 : 146,
      padding: [8, RIGHT, 0, 0],
      series, bands,
      scales: {
        x: { time: false, range: (u, low, high) => (low === high ? [low, low + 1] : [low, high]) },
        y: {
          range: (u, low, high) => {
            if (low == null) return [0, 1];
            if (panel.zero) return [0, high > 0 ? high * 1.08 : 1];
            const margin = (high - low || Math.abs(high) || 1) * 0.08;
            return [low - margin, high + margin];
          },
        },
      },
      axes: [
        { ...axis, size: 26, gap: 3, values: (u, marks) => marks.map((at) => `${seconds(at)} s`), space: 60 },
        { ...axis, size: AXIS, gap: 4, values: (u, marks) => marks.map(short), space: 30 },
      ],
      legend: { live: true, markers: { width: 0, fill: (u, i) => dashes(series[i].stroke, series[i].dash) } },
      cursor: {
        sync: { key: `timeline-${number}`, scales: ["x", null] },
        drag: { x: true, y: false },
        points: { size: 7 },
        y: false,
        // The interval that contains the cursor, not the nearest beginning of one.
        dataIdx: (u, at, nearest, x) =>
          Math.min(nearest > 0 && u.data[0][nearest] > x ? nearest - 1 : nearest, xs.length - 2),
      },
      hooks: {
        setCursor: [(u) => tell(timeline, number, u.cursor.idx)],
        setScale: [(u, key) => key === "x" && follow(figure, u.scales.x)],
      },
    }, [xs, ...data], place);
    for (const entry of place.querySelectorAll(".u-series:not(.bound) th")) {
      entry.tabIndex = 0;
      entry.setAttribute("role", "button");
      entry.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); entry.click(); }
        event.stopPropagation();
      });
    }
    timeline.charts.push(chart);
    figure.chart = chart;
  }

  function tell(timeline, number, index) {
    const line = document.querySelector(`.time[data-timeline="${number}"]`);
    const ends = timeline.starts.concat([timeline.end]);
    const text = index == null || index >= timeline.starts.length
      ? "" : `${seconds(ends[index])} to ${seconds(ends[index + 1])} s`;
    line.textContent = text || HELP;
  }

  // The lanes of a ribbon show the same stretch of time as the panels above them.
  function follow(figure, scale) {
    if (scale.min == null) return;
    for (const lane of figure.parentNode.querySelectorAll(".lane")) {
      lane.setAttribute("viewBox", `${scale.min} 0 ${scale.max - scale.min} 1`);
    }
  }

  function point(timeline, index) {
    const ends = timeline.charts[0].data[0], middle = (ends[index] + ends[index + 1]) / 2;
    const { min, max } = timeline.charts[0].scales.x;
    if (middle < min || middle > max) {
      // A zoomed view moves along.
      const low = Math.min(Math.max(ends[0], middle - (max - min) / 2), timeline.end - (max - min));
      for (const chart of timeline.charts) chart.batch(() => chart.setScale("x", { min: low, max: low + max - min }));
    }
    for (const chart of timeline.charts) {
      chart.setCursor({ left: chart.valToPos(middle, "x"), top: chart.over.clientHeight / 2 }, true, false);
    }
  }

  function zoom(timeline, factor) {
    const chart = timeline.charts[0], { min, max } = chart.scales.x, last = timeline.starts.length - 1;
    const index = chart.cursor.idx ?? last >> 1;
    const middle = timeline.starts[Math.min(index, last)], whole = [timeline.starts[0], timeline.end];
    let low = whole[0], high = whole[1];
    if (factor) {
      low = Math.max(whole[0], middle - (middle - min) * factor);
      high = Math.min(whole[1], middle + (max - middle) * factor);
    }
    if (high > low) for (const each of timeline.charts) each.setScale("x", { min: low, max: high });
  }

  function key(event, timeline, figure) {
    const last = timeline.starts.length - 1, now = figure.chart.cursor.idx;
    const page = Math.max(1, Math.round(last / 10));
    const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: -page, PageDown: page };
    const zooms = { "+": 0.5, "=": 0.5, "-": 2, 0: 0 };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in steps) {
      const next = now == null ? (steps[event.key] > 0 ? 0 : last) : now + steps[event.key];
      point(timeline, Math.min(last, Math.max(0, next)));
    } else if (event.key === "Home") point(timeline, 0);
    else if (event.key === "End") point(timeline, last);
    else if (event.key in zooms) zoom(timeline, zooms[event.key]);
    else if (event.key === "Escape") {
      for (const chart of timeline.charts) chart.setCursor({ left: -10, top: -10 }, true, false);
    } else return;
    event.preventDefault();
  }

  function drawAll() {
    for (const [number, timeline] of timelines.entries()) {
      for (const chart of timeline.charts.splice(0)) chart.destroy();
      for (const figure of document.querySelectorAll(`.panel[data-timeline="${number}"]`)) {
        draw(timeline, timeline.panels[Number(figure.dataset.panel)], figure, number);
      }
    }
  }

  function fit() {
    for (const timeline of timelines) {
      for (const chart of timeline.charts) {
        const place = chart.root.parentNode;
        if (place.clientWidth && place.clientWidth !== chart.width) {
          chart.setSize({ width: place.clientWidth, height: chart.height });
        }
      }
    }
  }

  drawAll();
  timelines.forEach((timeline, number) => tell(timeline, number, null));
  for (const figure of document.querySelectorAll(".panel")) {
    figure.addEventListener("keydown", (event) => key(event, timelines[Number(figure.dataset.timeline)], figure));
  }
  dark.addEventListener("change", drawAll);
  // Paper is light: the variables of the style sheet are, once the page is laid out for it.
  matchMedia("print").addEventListener("change", drawAll);
  new ResizeObserver(fit).observe(document.body);
})();
