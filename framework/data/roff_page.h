// The text that the roff interpreter writes: fills lines into paragraphs, keeps headings apart.
#pragma once

#include <string>
#include <string_view>

namespace switchyard {

class RoffPage {
 public:
  // Adds a line of text: to the paragraph when filling, as a line of its own when not.
  //   joined  no space comes between it and the text before
  void add(std::string_view line, bool joined = false);

  void end_line();       // what follows starts a new line
  void end_paragraph();  // what follows starts behind an empty line

  // Adds a heading with an empty line before it.
  void heading(std::string_view text);

  // Puts the tag of a list entry; a short one (a bullet, a number) stays on the line of its text.
  void tag(std::string_view text);

  void set_fill(bool fill) {
    end_line();
    fill_ = fill;
  }
  bool fill() const { return fill_; }
  bool empty() const { return text_.empty() && line_.empty(); }

  // The whole page; ends with a newline unless empty.
  std::string take();

 private:
  std::string text_, line_;
  bool fill_ = true;
  bool paragraph_ends_ = false;
};

}  // namespace switchyard
