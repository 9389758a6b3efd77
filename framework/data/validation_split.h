// Which documents are held out for validation: decided by their names, so that a document and its
// translations, its aliases and its copies are all on one side, in whatever order they come.
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

namespace switchyard {

class ValidationSplit {
 public:
  // Says that two names mean the same document, or that one holds the text of the other. The order
  // of the calls doesn't matter.
  void unite(const std::string& name, const std::string& other);

  // Whether the document called `name` is held out: a function of the smallest name that it is
  // united with and of the share in [0, 1], of nothing else. Of many names, `share` are.
  bool is_validation(const std::string& name, double share);

 private:
  int find(const std::string& name);
  int root_of(int index);

  std::unordered_map<std::string, int> indices_;
  std::vector<int> parents_;
  std::vector<std::string> names_;
};

}  // namespace switchyard
