// SPDX-License-Identifier: MIT
#include "report/style.h"

#define COLOURS                                                                                              \
    ":root{color-scheme:light dark;--bg:#f5f6f8;--card:#fff;--ink:#1a2230;--dim:#566174;--line:#dde1e8;"     \
    "--grid:#e8ebf0;--blue:#2563c9;--green:#1c7d4a;--amber:#9a5b00;--red:#b92b2b;--grey:#66707f;"            \
    "--c0:#2563c9;--c1:#c2570c;--c2:#1c7d4a;--c3:#8b3fb8;--c4:#a3700a;--c5:#0e7c86;--c6:#b8336a;--c7:#"      \
    "66707f;"                                                                                                \
    "--band:.16}\n"                                                                                          \
    "@media(prefers-color-scheme:dark){:root{--bg:#10141b;--card:#181e28;--ink:#e7ebf2;--dim:#9ba7b8;"       \
    "--line:#2b3443;--grid:#252d3a;--blue:#6ea3ff;--green:#5cc98d;--amber:#f0b252;--red:#ff8080;"            \
    "--grey:#9ba7b8;--c0:#6ea3ff;--c1:#ff9d5c;--c2:#5cc98d;--c3:#cf95f5;--c4:#e4bd55;--c5:#5fd0da;"          \
    "--c6:#ff8db8;--c7:#9ba7b8;--band:.22}}\n"

#define LAYOUT                                                                                               \
    "*{box-sizing:border-box}\n"                                                                             \
    "body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,-apple-system,\"Segoe "     \
    "UI\",Roboto,\"Noto "                                                                                    \
    "Sans\",sans-serif;font-variant-numeric:tabular-nums;-webkit-text-size-adjust:100%}\n"                   \
    "main,footer{max-width:1280px;margin:0 auto;padding:0 20px}\n"                                           \
    "footer{color:var(--dim);font-size:13px;padding-top:8px;padding-bottom:32px}\n"                          \
    "h1{font-size:26px;line-height:1.25;margin:0;overflow-wrap:anywhere;letter-spacing:-.01em}\n"            \
    "h2{font-size:17px;margin:36px 0 12px}\n"                                                                \
    "h3{font-size:14px;margin:0;font-weight:600}\n"                                                          \
    "header{padding:32px 0 0}\n"                                                                             \
    ".sub{color:var(--dim);overflow-wrap:anywhere;margin:4px 0 0}\n"                                         \
    ".title{display:flex;flex-wrap:wrap;align-items:center;gap:10px 14px}\n"                                 \
    ".pill{border-radius:99px;padding:2px "                                                                  \
    "12px;font-size:14px;font-weight:600;color:var(--tone);border:1.5px "                                    \
    "solid var(--tone);white-space:nowrap}\n"                                                                \
    ".blue{--tone:var(--blue)}.green{--tone:var(--green)}.amber{--tone:var(--amber)}.red{--tone:var(--red)}" \
    ".grey{--tone:var(--grey)}\n"                                                                            \
    ".grid{display:grid;gap:16px;grid-template-columns:repeat(auto-fit,minmax(min(100%,460px),1fr))}\n"      \
    ".stack{display:grid;gap:16px;grid-template-columns:minmax(0,1fr)}\n"                                    \
    ".small{display:grid;gap:16px;grid-template-columns:repeat(auto-fit,minmax(min(100%,260px),1fr))}\n"     \
    ".card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:16px "             \
    "18px;min-width:0;margin:0}\n"                                                                           \
    ".wide{grid-column:1/-1}\n"

#define NUMBERS                                                                                              \
    ".tiles{display:grid;gap:1px;background:var(--card);border:1px solid var(--line);border-radius:10px;"    \
    "overflow:hidden;grid-template-columns:repeat(auto-fit,minmax(152px,1fr));margin:16px 0 0}\n"            \
    ".tile{box-shadow:0 0 0 1px var(--line);padding:13px 16px 14px;min-width:0}\n"                           \
    ".tile span{display:block;color:var(--dim);font-size:13px}\n"                                            \
    ".tile b{display:block;font-size:22px;font-weight:600;line-height:1.3;letter-spacing:-.01em;"            \
    "overflow-wrap:anywhere}\n"                                                                              \
    ".tile em{font-style:normal;color:var(--tone)}\n"                                                        \
    ".progress{display:flex;height:14px;border-radius:7px;overflow:hidden;background:var(--line);margin:"    \
    "22px "                                                                                                  \
    "0 6px}\n"                                                                                               \
    ".progress i{display:block;background:var(--tone)}\n"                                                    \
    ".key{display:flex;flex-wrap:wrap;gap:2px 16px;color:var(--dim);font-size:13px}\n"                       \
    ".key i,.legend i{display:inline-block;width:9px;height:9px;border-radius:3px;background:var(--tone);"   \
    "margin-right:6px}\n"                                                                                    \
    ".notes{list-style:none;margin:18px 0 0;padding:0;display:grid;gap:8px}\n"                               \
    ".notes li{border-left:4px solid var(--tone);background:var(--card);padding:8px 14px;border-radius:0 "   \
    "8px "                                                                                                   \
    "8px 0;overflow-wrap:anywhere}\n"                                                                        \
    ".notes b{color:var(--tone);font-weight:600}\n"                                                          \
    "dl{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:5px 18px;margin:0}\n"               \
    "dt{color:var(--dim)}dd{margin:0;overflow-wrap:anywhere}\n"                                              \
    ".mono dd,code{font-family:ui-monospace,SFMono-Regular,Menlo,monospace;font-size:13px}\n"                \
    "@media(max-width:560px){main,footer{padding-left:14px;padding-right:14px}header{padding-top:20px}h1{"   \
    "font-size:21px}.tiles{grid-template-columns:1fr 1fr}.tile b{font-size:19px}.card{padding:14px}"         \
    ".mono{grid-template-columns:minmax(0,1fr)}.mono dd{margin-bottom:6px}}\n"

#define TABLES                                                                                               \
    ".scroll{overflow:auto;max-height:480px}\n"                                                              \
    "table{border-collapse:collapse;width:100%;font-size:14px}\n"                                            \
    "th{text-align:left;font-weight:600;color:var(--dim);font-size:13px;white-space:nowrap}\n"               \
    "th,td{padding:6px 18px 6px 0;border-bottom:1px solid var(--grid);vertical-align:top}\n"                 \
    "tr:last-child td{border-bottom:0}\n"                                                                    \
    "td.text{min-width:220px;overflow-wrap:anywhere}td.nowrap{white-space:nowrap}\n"                         \
    "th.n,td.n{text-align:right;white-space:nowrap}\n"                                                       \
    "details summary{cursor:pointer;font-weight:600;font-size:14px}details[open] "                           \
    "summary{margin-bottom:12px}\n"                                                                          \
    ".list td.n,.list "                                                                                      \
    "td.nowrap{width:1%}.hash{font-family:ui-monospace,SFMono-Regular,Menlo,monospace;font-"                 \
    "size:13px}\n"                                                                                           \
    ".card .sub{margin-top:12px}.sub.wide,.card .sub{font-size:13px}td "                                     \
    ".track{margin-top:6px}.none{color:var(--dim);margin:0}\n"

// A plot is an SVG stretched to its place under labels that are HTML, so that text keeps its size at any
// width; lines keep their width by non-scaling-stroke.
#define PLOTS                                                                                                \
    "figure{margin:0}figcaption{display:flex;flex-wrap:wrap;justify-content:space-between;gap:0 "            \
    "14px;margin-bottom:10px}\n"                                                                             \
    "figcaption p{margin:0;color:var(--dim);font-size:13px}\n"                                               \
    ".plot{position:relative;height:190px;margin:8px 6px 22px 58px}.plot.low{height:110px}"                  \
    ".plot.high{height:320px}\n"                                                                             \
    ".plot svg{position:absolute;inset:0;width:100%;height:100%;overflow:visible}\n"                         \
    ".plot span{position:absolute;font-size:12px;color:var(--dim);white-space:nowrap;line-height:1}\n"       \
    ".plot .y{right:calc(100% + 8px);transform:translateY(50%)}\n"                                           \
    ".plot .x{top:calc(100% + 8px);transform:translateX(-50%)}.plot .x.first{transform:none}"                \
    ".plot .x.last{transform:translateX(-100%)}\n"                                                           \
    ".plot path,.plot line{vector-effect:non-scaling-stroke;fill:none;stroke-linejoin:round;"                \
    "stroke-linecap:round}\n"                                                                                \
    ".g{stroke:var(--grid);stroke-width:1}.axis{stroke:var(--line);stroke-width:1.5}\n"                      \
    ".l{stroke:var(--tone);stroke-width:1.8}.plot "                                                          \
    "path.b{fill:var(--tone);opacity:var(--band);stroke:none}\n"                                             \
    ".d{stroke:var(--dim);stroke-width:1.3;stroke-dasharray:5 4}\n"                                          \
    ".dot{stroke:var(--tone);stroke-width:5;opacity:.62}.mark{stroke:var(--tone);stroke-width:7}\n"          \
    ".bar{fill:var(--tone)}.bar:hover{opacity:.75}.gap{fill:var(--dim);opacity:.22}\n"                       \
    ".t0{--tone:var(--c0)}.t1{--tone:var(--c1)}.t2{--tone:var(--c2)}.t3{--tone:var(--c3)}"                   \
    ".t4{--tone:var(--c4)}.t5{--tone:var(--c5)}.t6{--tone:var(--c6)}.t7{--tone:var(--c7)}\n"                 \
    ".legend{display:flex;flex-wrap:wrap;gap:2px 16px;font-size:13px;color:var(--dim);margin:0 0 6px}\n"     \
    ".meters{display:grid;grid-template-columns:max-content minmax(40px,1fr) max-content;gap:7px "           \
    "12px;align-items:center;font-size:14px}\n"                                                              \
    ".meters .track{height:12px;border-radius:6px;background:var(--grid);overflow:hidden}\n"                 \
    ".meters .track i{display:block;height:100%;background:var(--tone)}\n"                                   \
    ".meters .n{text-align:right;color:var(--dim);font-size:13px}\n"                                         \
    ".low .x.wide{display:none}@media(max-width:560px){.x.wide{display:none}}\n"                             \
    "@media print{body{background:#fff}.card{break-inside:avoid}}\n"

const char *report_style(void) {
    return COLOURS LAYOUT NUMBERS TABLES PLOTS;
}
