// The mdoc macros (BSD's pages). Most may be called from one another's arguments: `.Op Fl a Ar b`.
#include <map>
#include <optional>
#include <set>

#include "data/roff_interpreter.h"

namespace switchyard {
namespace {

bool is_closing(std::string_view word) {
  return word.size() == 1 && std::string_view(".,:;)]?!").find(word[0]) != std::string_view::npos;
}

bool is_opening(std::string_view word) { return word == "(" || word == "["; }

struct Pair {
  std::string_view open, close;
};

// Macros that put the rest of their line between two marks.
const std::map<std::string_view, Pair>& enclosures() {
  static const std::map<std::string_view, Pair> table{
      {"Op", {"[", "]"}},   {"Sq", {"'", "'"}},   {"Ql", {"'", "'"}},
      {"Dq", {"\"", "\""}}, {"Qq", {"\"", "\""}}, {"Pq", {"(", ")"}},
      {"Bq", {"[", "]"}},   {"Brq", {"{", "}"}},  {"Aq", {"<", ">"}}};
  return table;
}

// Halves of enclosures that reach over several lines.
const std::map<std::string_view, std::string_view>& marks() {
  static const std::map<std::string_view, std::string_view> table{
      {"Oo", "["},  {"Oc", "]"},  {"So", "'"}, {"Sc", "'"}, {"Do", "\""}, {"Dc", "\""},
      {"Qo", "\""}, {"Qc", "\""}, {"Po", "("}, {"Pc", ")"}, {"Bo", "["},  {"Bc", "]"},
      {"Bro", "{"}, {"Brc", "}"}, {"Ao", "<"}, {"Ac", ">"}};
  return table;
}

// Macros whose text stands for itself, and words that stand for a system's name.
const std::map<std::string_view, std::string_view>& words() {
  static const std::map<std::string_view, std::string_view> table{
      {"Ar", ""},          {"Cm", ""},        {"Ic", ""},       {"Li", ""},        {"Ev", ""},
      {"Pa", ""},          {"Va", ""},        {"Dv", ""},       {"Em", ""},        {"Sy", ""},
      {"No", ""},          {"Tn", ""},        {"Er", ""},       {"Ad", ""},        {"Mt", ""},
      {"Fa", ""},          {"Ft", ""},        {"Fd", ""},       {"Vt", ""},        {"Sx", ""},
      {"Cd", ""},          {"Lb", ""},        {"An", ""},       {"Ms", ""},        {"Lk", ""},
      {"Bx", "BSD"},       {"Fx", "FreeBSD"}, {"Nx", "NetBSD"}, {"Ox", "OpenBSD"}, {"Ux", "UNIX"},
      {"At", "AT&T UNIX"}, {"St", ""},        {"%A", ""},       {"%B", ""},        {"%D", ""},
      {"%I", ""},          {"%J", ""},        {"%N", ""},       {"%O", ""},        {"%P", ""},
      {"%R", ""},          {"%T", ""},        {"%U", ""},       {"%V", ""}};
  return table;
}

bool is_inline(std::string_view word) {
  static const std::set<std::string_view> kOthers{"Fl", "Nm", "Xr", "Ns", "Ap", "Pf", "Fn",
                                                  "Fo", "Fc", "In", "Xo", "Xc", "Nd", "Ta"};
  return kOthers.contains(word) || enclosures().contains(word) || marks().contains(word) ||
         words().contains(word);
}

// Puts words side by side with mdoc's spacing.
class Line {
 public:
  void add(std::string_view word) {
    if (!text_.empty() && !joined_ && !is_closing(word)) text_ += ' ';
    text_ += word;
    joined_ = is_opening(word);
  }
  void add_joined(std::string_view word) {
    joined_ = true;
    add(word);
  }
  void join() { joined_ = true; }
  std::string take() { return std::move(text_); }

 private:
  std::string text_;
  bool joined_ = false;
};

}  // namespace

// The text of words[begin] .. as an mdoc line; macro names among them are carried out.
std::string RoffInterpreter::mdoc_inline(const Arguments& list, size_t begin) {
  Line line;
  std::string_view macro;              // whose arguments come
  std::vector<std::string_view> open;  // closing marks still to come
  size_t end = list.size();
  while (end > begin && is_closing(list[end - 1])) --end;
  const auto next_is_text = [&](size_t i) { return i + 1 < end && !is_inline(list[i + 1]); };
  for (size_t i = begin; i < end; ++i) {
    const std::string& word = list[i];
    if (!is_inline(word)) {
      macro == "Fl" ? line.add("-" + word) : line.add(word);
      continue;
    }
    macro = word;
    if (const auto pair = enclosures().find(word); pair != enclosures().end()) {
      line.add(pair->second.open);
      line.join();
      open.push_back(pair->second.close);
    } else if (const auto mark = marks().find(word); mark != marks().end()) {
      const bool closes = word.back() == 'c';
      closes ? line.add_joined(mark->second) : line.add(mark->second);
      if (!closes) line.join();
    } else if (word == "Fl") {
      if (!next_is_text(i)) line.add("-");
    } else if (word == "Ar") {
      if (!next_is_text(i)) line.add("file ...");
    } else if (word == "Nm") {
      if (!next_is_text(i))
        line.add(mdoc_name_);
      else if (mdoc_name_.empty())
        mdoc_name_ = list[i + 1];
    } else if (word == "Xr" && next_is_text(i)) {
      line.add(list[++i]);
      if (next_is_text(i) && !is_closing(list[i + 1])) line.add_joined("(" + list[++i] + ")");
    } else if (word == "Fn" && next_is_text(i)) {
      std::string call = list[++i] + "(";
      for (bool first = true; next_is_text(i) && !is_closing(list[i + 1]); first = false) {
        call += (first ? "" : ", ") + list[++i];
      }
      line.add(call + ")");
    } else if (word == "In" && next_is_text(i)) {
      line.add("#include <" + list[++i] + ">");
    } else if (word == "Pf" && next_is_text(i)) {
      line.add(list[++i]);
      line.join();
    } else if (word == "Ns") {
      line.join();
    } else if (word == "Ap") {
      line.add_joined("'");
      line.join();
    } else if (const auto own = words().find(word); own != words().end() && !own->second.empty()) {
      line.add(own->second);
    }
  }
  for (; !open.empty(); open.pop_back()) line.add_joined(open.back());
  for (size_t i = end; i < list.size(); ++i) line.add_joined(list[i]);
  return line.take();
}

bool RoffInterpreter::mdoc_macro(const std::string& name, std::string_view rest) {
  Arguments arguments = expanded_arguments(rest);
  if (mdoc_block(name, arguments)) return true;
  if (!is_inline(name)) return false;
  if (name == "Xo" || name == "Xc" || name == "Fc" || name == "Ns") {
    join_next_ = join_next_ || name == "Ns";
    if (arguments.empty()) return true;
  }
  const auto mark = marks().find(name);
  const bool closes = mark != marks().end() && name.back() == 'c';
  if (closes) join_next_ = true;
  if (name == "Nd") arguments.insert(arguments.begin(), "–");
  if (name == "An" && !arguments.empty() && arguments[0].ends_with("split")) return true;
  arguments.insert(arguments.begin(), name);
  const std::string text = mdoc_inline(arguments, 0);
  if (!text.empty()) add_text(text);
  // A mark alone on its line belongs to the next one.
  if (mark != marks().end() && !closes && arguments.size() == 1) join_next_ = true;
  return true;
}

// Macros that shape the page; true when `name` is one.
bool RoffInterpreter::mdoc_block(const std::string& name, const Arguments& arguments) {
  const std::string first = arguments.empty() ? "" : arguments[0];
  if (name == "Dt") {
    page_.heading(first + "(" + (arguments.size() > 1 ? arguments[1] : "") + ")");
  } else if (name == "Sh" || name == "Ss") {
    page_.set_fill(true);
    page_.heading(mdoc_inline(arguments, 0));
  } else if (name == "Pp" || name == "Lp") {
    page_.end_paragraph();
  } else if (name == "Bl") {
    page_.end_paragraph();
    if (mdoc_lists_.size() < 100) mdoc_lists_.push_back(first);
  } else if (name == "El") {
    if (!mdoc_lists_.empty()) mdoc_lists_.pop_back();
    page_.end_paragraph();
  } else if (name == "It") {
    page_.end_paragraph();
    const std::string type = mdoc_lists_.empty() ? "" : mdoc_lists_.back();
    const std::string text = mdoc_inline(arguments, 0);
    if (text.empty()) {
      page_.tag("•");
    } else if (type == "-column") {
      page_.add(text);
    } else {
      page_.tag(text);
    }
  } else if (name == "Bd") {
    page_.end_paragraph();
    page_.set_fill(first != "-literal" && first != "-unfilled");
  } else if (name == "Ed") {
    page_.set_fill(true);
    page_.end_paragraph();
  } else if (name == "D1" || name == "Dl") {
    page_.end_line();
    add_text(mdoc_inline(arguments, 0));
    page_.end_line();
  } else if (name == "Ex") {
    add_text("The " + mdoc_name_ + " utility exits 0 on success, and >0 if an error occurs.");
  } else {
    static const std::set<std::string_view> kNothing{"Dd", "Os", "Bk", "Ek", "Sm", "Bf", "Ef",
                                                     "Rs", "Re", "Rv", "Es", "En", "Eo", "Ec"};
    return kNothing.contains(name);
  }
  return true;
}

}  // namespace switchyard
