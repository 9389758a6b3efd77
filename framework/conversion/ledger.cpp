#include "conversion/ledger.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/errors.h"

namespace switchyard {

namespace {

// Numbers between dots or behind '_' become '*': "expert_12" and "block.3", not "wi_0" or "w1".
std::string pattern_of(const std::string& name) {
  std::string pattern;
  for (size_t at = 0; at < name.size();) {
    const size_t dot = std::min(name.find('.', at), name.size());
    std::string part = name.substr(at, dot - at);
    const std::string expert = "expert_";
    const size_t digits = part.starts_with(expert) ? expert.size() : 0;
    const bool number =
        digits < part.size() && part.find_first_not_of("0123456789", digits) == std::string::npos;
    if (number) part = part.substr(0, digits) + "*";
    pattern += (at > 0 ? "." : "") + part;
    at = dot + 1;
  }
  return pattern;
}

std::string type_text(const LedgerLine& line) {
  if (line.stored == line.written) return std::string(name_of(line.written));
  return fmt::format("{} from {}", name_of(line.written), name_of(line.stored));
}

std::string grouped(uint64_t number) {
  std::string digits = std::to_string(number);
  for (auto at = static_cast<ptrdiff_t>(digits.size()) - 3; at > 0; at -= 3) {
    digits.insert(static_cast<size_t>(at), ",");
  }
  return digits;
}

// What tensors of one kind share.
std::string kind_of(const LedgerLine& line) {
  const bool part = line.note.starts_with("part ");
  return fmt::format("{}\t{}\t[{}]\t{}\t{}", pattern_of(line.target), pattern_of(line.source),
                     fmt::join(line.shape, ", "), type_text(line), part ? "part" : line.note);
}

struct SummaryRow {
  size_t tensors = 0;
  const LedgerLine* first = nullptr;
};

}  // namespace

void Ledger::check(const ModelSource& source) const {
  std::set<std::string_view> written, used;
  for (const LedgerLine& line : lines) {
    if (!written.insert(line.target).second) {
      throw CheckpointError(fmt::format("tensor \"{}\" would be written twice", line.target));
    }
    used.insert(line.source);
  }
  for (const SourceTensor& tensor : source.tensors) {
    if (used.contains(tensor.origin)) continue;
    throw CheckpointError(
        fmt::format("tensor \"{}\" has no place in what is to be written", tensor.origin),
        source.description, "nothing is left out: does the config belong to these weights?");
  }
}

std::string Ledger::summary() const {
  std::vector<SummaryRow> rows;
  std::map<std::string, size_t> row_of;
  uint64_t bytes = 0;
  std::set<std::string_view> sources;
  size_t fresh = 0;
  for (const LedgerLine& line : lines) {
    const auto [found, is_new] = row_of.try_emplace(kind_of(line), rows.size());
    if (is_new) rows.push_back({.first = &line});
    ++rows[found->second].tensors;
    bytes += line.size_bytes;
    line.note == "fresh" ? ++fresh : sources.insert(line.source).second;
  }
  size_t target = 6, source = 6, shape = 5;
  std::vector<std::array<std::string, 3>> texts;
  for (const SummaryRow& row : rows) {
    texts.push_back({pattern_of(row.first->target), pattern_of(row.first->source),
                     fmt::format("[{}]", fmt::join(row.first->shape, ", "))});
    target = std::max(target, texts.back()[0].size());
    source = std::max(source, texts.back()[1].size());
    shape = std::max(shape, texts.back()[2].size());
  }
  std::string text = fmt::format("{:>7}  {:<{}}  {:<{}}  {:<{}}  type\n", "tensors", "target",
                                 target, "source", source, "shape", shape);
  for (size_t i = 0; i < rows.size(); ++i) {
    const LedgerLine& line = *rows[i].first;
    const bool part = line.note.starts_with("part ");
    const std::string note = part ? "a part each" : line.note;
    text += fmt::format("{:>7}  {:<{}}  {:<{}}  {:<{}}  {}{}\n", rows[i].tensors, texts[i][0],
                        target, texts[i][1], source, texts[i][2], shape, type_text(line),
                        note.empty() ? "" : ", " + note);
  }
  for (const LeftOut& left : left_out) {
    text += fmt::format("{:>7}  (left out)  {}: {}\n", 1, left.name, left.reason);
  }
  text += fmt::format(
      "{} tensors read: {} used, {} left out. {} written, {} of them fresh, {} "
      "bytes. None is missing.\n",
      stored_tensors, sources.size(), left_out.size(), lines.size(), fresh, grouped(bytes));
  return text;
}

std::string Ledger::table() const {
  std::string text = "target\tsource\tnote\ttype\tshape\tbytes\n";
  for (const LedgerLine& line : lines) {
    text += fmt::format("{}\t{}\t{}\t{}\t[{}]\t{}\n", line.target, line.source, line.note,
                        type_text(line), fmt::join(line.shape, ", "), line.size_bytes);
  }
  for (const LeftOut& left : left_out) {
    text += fmt::format("\t{}\tleft out: {}\t\t\t\n", left.name, left.reason);
  }
  return text;
}

}  // namespace switchyard
