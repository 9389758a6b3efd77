// The man macros, with the additions of groff, Pod and the Tcl pages that are widely used.
#include <map>

#include "data/roff_interpreter.h"

namespace switchyard {
namespace {

enum class Macro {
  kTitle,
  kHeading,
  kParagraph,
  kIndented,
  kTag,
  kFont,
  kAlternating,
  kLinkBegin,
  kLinkEnd,
  kOption,
  kSynopsis,
  kFilled,
  kUnfilled,
  kLine,
  kUrl,
  kNothing
};

const std::map<std::string_view, Macro>& man_macros() {
  static const std::map<std::string_view, Macro> table{
      {"TH", Macro::kTitle},       {"SH", Macro::kHeading},     {"SS", Macro::kHeading},
      {"PP", Macro::kParagraph},   {"P", Macro::kParagraph},    {"LP", Macro::kParagraph},
      {"Sp", Macro::kParagraph},   {"HP", Macro::kParagraph},   {"IP", Macro::kIndented},
      {"TP", Macro::kTag},         {"TQ", Macro::kTag},         {"B", Macro::kFont},
      {"I", Macro::kFont},         {"SM", Macro::kFont},        {"SB", Macro::kFont},
      {"R", Macro::kFont},         {"C", Macro::kFont},         {"CW", Macro::kFont},
      {"BI", Macro::kAlternating}, {"BR", Macro::kAlternating}, {"IB", Macro::kAlternating},
      {"IR", Macro::kAlternating}, {"RB", Macro::kAlternating}, {"RI", Macro::kAlternating},
      {"MR", Macro::kAlternating}, {"UR", Macro::kLinkBegin},   {"MT", Macro::kLinkBegin},
      {"UE", Macro::kLinkEnd},     {"ME", Macro::kLinkEnd},     {"OP", Macro::kOption},
      {"SY", Macro::kSynopsis},    {"YS", Macro::kLine},        {"EX", Macro::kUnfilled},
      {"EE", Macro::kFilled},      {"Vb", Macro::kUnfilled},    {"Ve", Macro::kFilled},
      {"CS", Macro::kUnfilled},    {"CE", Macro::kFilled},      {"RS", Macro::kLine},
      {"RE", Macro::kLine},        {"URL", Macro::kUrl},        {"MTO", Macro::kUrl},
      {"PD", Macro::kNothing},     {"DT", Macro::kNothing},     {"UC", Macro::kNothing},
      {"AT", Macro::kNothing},     {"IX", Macro::kNothing},     {"TE", Macro::kNothing},
      {"BS", Macro::kNothing},     {"BE", Macro::kNothing},     {"VS", Macro::kNothing},
      {"VE", Macro::kNothing},     {"AS", Macro::kNothing}};
  return table;
}

}  // namespace

bool RoffInterpreter::man_macro(const std::string& name, std::string_view rest) {
  const auto found = man_macros().find(name);
  if (found == man_macros().end()) return false;
  const Macro macro = found->second;
  if (macro == Macro::kNothing) return true;
  const Arguments arguments = expanded_arguments(rest);
  const auto argument = [&](size_t i) {
    return i < arguments.size() ? arguments[i] : std::string();
  };
  switch (macro) {
    case Macro::kTitle:
      page_.heading(argument(0) + "(" + argument(1) + ")");
      break;
    case Macro::kHeading:
      page_.set_fill(true);
      expect_ = Expect::kHeading;
      if (!arguments.empty()) font_line(arguments, false);
      break;
    case Macro::kParagraph:
      page_.end_paragraph();
      break;
    case Macro::kIndented:
      page_.end_paragraph();
      if (!arguments.empty()) page_.tag(argument(0));
      break;
    case Macro::kTag:
      name == "TP" ? page_.end_paragraph() : page_.end_line();
      expect_ = Expect::kTag;
      break;
    case Macro::kFont:
    case Macro::kAlternating:
      if (name == "MR") {
        add_text(argument(0) + "(" + argument(1) + ")" + argument(2));
      } else {
        font_line(arguments, macro == Macro::kAlternating);
      }
      break;
    case Macro::kLinkBegin:
      link_ = argument(0);
      break;
    case Macro::kLinkEnd:
      end_link();
      if (!arguments.empty()) page_.add(argument(0), true);
      break;
    case Macro::kOption:
      add_text("[" + argument(0) + (arguments.size() > 1 ? " " + argument(1) : "") + "]");
      break;
    case Macro::kSynopsis:
      page_.end_line();
      add_text(argument(0));
      break;
    case Macro::kFilled:
    case Macro::kUnfilled:
      page_.set_fill(macro == Macro::kFilled);
      break;
    case Macro::kUrl:  // .URL address text punctuation
      add_text((arguments.size() > 1 ? argument(1) + " " : "") + "<" + argument(0) + ">" +
               argument(2));
      break;
    case Macro::kLine:
    case Macro::kNothing:
      page_.end_line();
      break;
  }
  has_text_ = true;
  return true;
}

// .B and its like with text behind them; without, they set the font of the next line only.
void RoffInterpreter::font_line(const Arguments& arguments, bool alternating) {
  if (arguments.empty()) return;
  std::string text;
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (i > 0 && !alternating) text += ' ';
    text += arguments[i];
  }
  add_text(text);
}

void RoffInterpreter::end_link() {
  if (!link_.empty()) page_.add("<" + link_ + ">");
  link_.clear();
}

}  // namespace switchyard
