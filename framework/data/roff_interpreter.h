// Reads roff: requests, conditions, strings, registers, macros of the page itself, escapes. The man
// and mdoc macros stand in roff_man.cpp and roff_mdoc.cpp. Internal to roff.h.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "data/roff.h"
#include "data/roff_page.h"

namespace switchyard {

class RoffInterpreter {
 public:
  explicit RoffInterpreter(std::string_view source);

  ManPage run();

 private:
  using Arguments = std::vector<std::string>;

  struct Frame {  // lines still to be read: the page, or a macro being expanded
    std::vector<std::string> lines;
    size_t next = 0;
    Arguments arguments;  // of the macro
  };

  // roff_interpreter.cpp: lines
  bool next_line(std::string& line);
  void interpret(std::string_view line);
  void control_line(std::string_view line);
  void text_line(std::string_view line);
  std::string with_arguments(std::string_view line) const;  // \$1 of the macro being expanded
  void call_macro(const std::string& name, Arguments arguments);
  Arguments split_arguments(std::string_view rest) const;  // escapes still in them
  Arguments expanded_arguments(std::string_view rest);
  void skip_until(std::string_view request);  // ".EN" and the like

  // roff_requests.cpp; each returns whether the name is its own
  bool request(const std::string& name, std::string_view rest);
  bool definition(const std::string& name, std::string_view rest);
  void condition(std::string_view rest, bool is_ie);
  void conditional_body(std::string_view body, bool holds);
  bool evaluate(std::string_view& rest);  // takes the condition off
  bool evaluate_plain(std::string_view& rest);
  bool text_condition(std::string_view& rest);
  bool number_condition(std::string_view& rest);
  int64_t expression(std::string_view& text, int depth = 0);
  int64_t term(std::string_view& text, int depth);
  std::vector<std::string> read_definition(std::string_view end);

  // roff_escapes.cpp
  std::string expand(std::string_view text, int depth = 0);
  void expand_escape(std::string_view text, size_t& position, std::string& to, int depth);
  void append_delimited(char kind, std::string_view argument, std::string& to, int depth);
  void append_register(std::string_view name, std::string& to);

  // roff_man.cpp, roff_mdoc.cpp, roff_table.cpp
  bool man_macro(const std::string& name, std::string_view rest);
  bool mdoc_macro(const std::string& name, std::string_view rest);
  bool mdoc_block(const std::string& name, const Arguments& arguments);
  std::string mdoc_inline(const Arguments& words, size_t begin);
  void table();
  bool next_text_block(std::string& line, std::string& row);

  void font_line(const Arguments& arguments, bool alternating);
  void end_link();
  void add_text(const std::string& text);

  std::vector<Frame> frames_;
  RoffPage page_;
  std::map<std::string, std::vector<std::string>, std::less<>> macros_;
  std::map<std::string, std::string, std::less<>> strings_;
  std::map<std::string, int64_t, std::less<>> registers_;
  std::vector<bool> else_conditions_;
  std::string redirect_;
  int64_t budget_;          // characters it may still handle: ends runaway macros
  bool escapes_ = true;     // .eo switches them off
  bool join_next_ = false;  // \c: the next line continues this one
  bool joined_by_escape_ = false;
  bool is_mdoc_ = false;
  bool has_text_ = false;  // anything but comments and redirections was read
  enum class Expect { kNothing, kTag, kHeading } expect_ = Expect::kNothing;
  std::string pending_;  // of the tag or heading so far
  std::string link_;     // of .UR or .MT until .UE or .ME

  int depth_ = 0;                        // of interpret() in itself
  std::string mdoc_name_;                // of the first .Nm
  std::vector<std::string> mdoc_lists_;  // types of the open .Bl
};

}  // namespace switchyard
