#include <fmt/format.h>

#include "report/heat_map.h"
#include "report/report_sections.h"

namespace switchyard {

namespace {

// Curves: Okabe and Ito's colours, which colour-blind people tell apart, darkened for white paper
// and lightened for dark pages.
constexpr const char* kLight =
    "--paper:#fcfcfb;--panel:#ffffff;--ink:#1b2026;--soft:#5b6570;--line:#dfe3e7;--grid:#e9ecef;"
    "--good:#0a7a52;--bad:#b3400b;--accent:#0b62a4;"
    "--c0:#0b62a4;--c1:#c4500a;--c2:#0a8560;--c3:#a8507f;--c4:#2f93c8;--c5:#b07a00;--c6:#5d4fa2;"
    "--c7:#55606b;";
constexpr const char* kDark =
    "--paper:#12161b;--panel:#191f26;--ink:#e8ecf0;--soft:#a3adb8;--line:#2e3740;--grid:#27303a;"
    "--good:#4fd0a0;--bad:#ff9a62;--accent:#7cc4f5;"
    "--c0:#6db8f0;--c1:#ff9a55;--c2:#3fcf9f;--c3:#e79ac6;--c4:#9adcff;--c5:#f0bf4c;--c6:#b3a6f2;"
    "--c7:#b5bec8;";

constexpr const char* kRules = R"(
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,-apple-system,
"Segoe UI",Roboto,"Noto Sans","DejaVu Sans",sans-serif;font-variant-numeric:tabular-nums}
header,main,footer{max-width:1120px;margin:0 auto;padding:0 20px}
header{padding-top:36px}
h1{font-size:2.1rem;line-height:1.15;margin:.1em 0 .3em;letter-spacing:-.02em;overflow-wrap:anywhere}
h2{font-size:1.35rem;letter-spacing:-.01em;margin:0 0 .2em}
h3{font-size:1rem;margin:0;overflow-wrap:anywhere}
p{margin:.4em 0}
a{color:var(--accent)}
.kicker{color:var(--soft);font-size:.85rem;letter-spacing:.08em;text-transform:uppercase;margin:0}
.verdict{font-size:1.12rem;max-width:46em}
.state{font-weight:700}
.good{color:var(--good)}
.bad{color:var(--bad)}
nav{margin:1em 0 0;font-size:.95rem}
nav a{margin-right:1.1em;white-space:nowrap}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(165px,1fr));gap:12px;margin:22px 0 0}
.tiles div{background:var(--panel);border:1px solid var(--line);border-radius:10px;padding:10px 14px}
.tiles dt{color:var(--soft);font-size:.85rem}
.tiles dd{margin:0;font-size:1.5rem;font-weight:650;line-height:1.25;white-space:nowrap}
.tiles dd+dd{font-size:.85rem;font-weight:400;color:var(--soft);line-height:1.35;white-space:normal}
.notes{margin:22px 0 0;padding:10px 16px;border-left:4px solid var(--bad);background:var(--panel)}
.notes ul{margin:.3em 0;padding-left:1.2em}
section{margin:44px 0 0}
.intro{color:var(--soft);max-width:52em}
.figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,440px),1fr));gap:16px;
margin-top:14px}
figure{margin:0;min-width:0;background:var(--panel);border:1px solid var(--line);border-radius:10px;
padding:14px 16px 10px}
figcaption p{color:var(--soft);font-size:.9rem;line-height:1.4;margin:.15em 0 .5em}
.legend{display:flex;flex-wrap:wrap;gap:2px 16px;font-size:.85rem;margin:.2em 0 .5em}
.legend span{display:inline-flex;align-items:center;gap:6px}
svg{display:block;width:100%;height:auto;font-size:11px;overflow:visible}
svg.key{width:26px;height:10px;flex:none}
svg text{fill:var(--soft);font-variant-numeric:tabular-nums}
svg .axis-name{font-style:italic}
.grid{stroke:var(--grid);fill:none}
.axis{stroke:var(--soft);fill:none}
.level{stroke:var(--ink);fill:none;stroke-width:1.2;stroke-dasharray:2 3}
.resume{stroke:var(--soft);fill:none;stroke-dasharray:1 2}
.curve{fill:none;stroke-width:1.7;stroke-linejoin:round}
.faint{stroke-width:.8;opacity:.38}
.c0{stroke:var(--c0)}.c1{stroke:var(--c1)}
.c2{stroke:var(--c2);stroke-dasharray:7 3}.c3{stroke:var(--c3);stroke-dasharray:2 2}
.c4{stroke:var(--c4);stroke-dasharray:9 3 2 3}.c5{stroke:var(--c5);stroke-dasharray:4 2}
.c6{stroke:var(--c6);stroke-dasharray:12 3}.c7{stroke:var(--c7);stroke-dasharray:1 3}
.d0{fill:var(--c0)}.d1{fill:var(--c1)}.d2{fill:var(--c2)}.d3{fill:var(--c3)}
.d4{fill:var(--c4)}.d5{fill:var(--c5)}.d6{fill:var(--c6)}.d7{fill:var(--c7)}
.q{stroke:var(--panel);stroke-width:1}
.s{fill:none;stroke-width:1.02;shape-rendering:crispEdges}
.qnone{fill:var(--grid)}.snone{stroke:var(--grid)}
svg .number{font-size:10.5px}
.table{overflow-x:auto}
table{border-collapse:collapse;font-size:.92rem}
th,td{padding:4px 12px 4px 0;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child,td:first-child{text-align:left}
th{font-weight:600;color:var(--soft)}
td small{color:var(--soft)}
.wide{grid-column:1/-1}
pre{background:var(--panel);border:1px solid var(--line);border-radius:10px;padding:14px 16px;
overflow-x:auto;font:13px/1.5 ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace}
footer{color:var(--soft);font-size:.85rem;margin-top:44px;padding-bottom:40px}
@media(max-width:520px){header,main,footer{padding-left:14px;padding-right:14px}
figure{padding:12px 10px 8px}h1{font-size:1.7rem}svg{font-size:13.5px}svg .number{font-size:12.5px}
.tiles{grid-template-columns:repeat(2,minmax(0,1fr));gap:8px}.tiles dd{font-size:1.25rem}}
@page{margin:14mm}
@media print{:root{--paper:#ffffff}body{font-size:10.5pt}svg{font-size:13.5px}svg .number{font-size:12.5px}nav{display:none}header{padding-top:0}
header,main,footer{max-width:none;padding:0}section{margin-top:20pt}
h2,h3{break-after:avoid}figure,.tiles div,tr{break-inside:avoid}
.figures{grid-template-columns:1fr 1fr;gap:10pt}figure{padding:6pt 8pt}
.tiles{grid-template-columns:repeat(4,1fr);gap:6pt}.tiles dd{font-size:13pt}
pre{white-space:pre-wrap;overflow-wrap:anywhere;font-size:8pt}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
)";

std::string level_rules() {
  std::string css;
  for (int level = 0; level < kHeatLevels; ++level) {
    css += fmt::format(
        ".q{0}{{fill:var(--q{0})}}.s{0}{{stroke:var(--q{0})}}svg .t{0}{{fill:var(--t{0})}}", level);
  }
  return css;
}

}  // namespace

std::string style_sheet() {
  // Paper is always light.
  return fmt::format(
      ":root{{color-scheme:light dark;{}{}}}\n"
      "@media screen and (prefers-color-scheme:dark){{:root{{{}{}}}}}\n{}\n{}\n",
      kLight, heat_colours(true), kDark, heat_colours(false), kRules, level_rules());
}

}  // namespace switchyard
