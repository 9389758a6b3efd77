// The sections of report.html; html_report.cpp puts them together.
#pragma once

#include <string>
#include <vector>

#include "report/run_log.h"

namespace switchyard {

// How a run's story begins: its heading, verdict, figures worth a tile and what to look at.
std::string verdict_section(const RunLog& log);
// Loss curves, auxiliary losses, validation by label.
std::string loss_section(const RunLog& log);
// Learning rate, gradient norm, speed.
std::string optimisation_section(const RunLog& log);
// Load heat maps, drops, router entropy, dead experts. Empty for a dense model.
std::string expert_section(const RunLog& log);
// Label x expert. Empty where no evaluation counted labels.
std::string specialisation_section(const RunLog& log);
std::string config_section(const RunLog& log);

// A section with its heading and figures; empty where there are none.
//   intro  HTML
std::string section(const std::string& id, const std::string& title, const std::string& intro,
                    const std::string& figures);

// The last evaluation that counted labels; null if none did.
const EvaluationRecord* last_labelled_evaluation(const RunLog& log);
// Tokens over an equal share of them, by layer and expert, in the last tenth of the steps; NaN
// where a layer had no token.
std::vector<double> recent_load_ratio(const LayerLog& layer);
// Steps that a curve is smoothed over.
double smoothing_window(const RunLog& log);

// The page's style sheet.
std::string style_sheet();

}  // namespace switchyard
