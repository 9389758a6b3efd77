// Manual pages (roff source with the man or mdoc macros, as in /usr/share/man) as plain text.
// It makes text to train on, not a page to print: no widths, no indentation, no fonts.
#pragma once

#include <string>
#include <string_view>

namespace switchyard {

struct ManPage {
  // UTF-8: one line for a heading, a paragraph or an unfilled line, an empty line before headings
  // and paragraphs. Empty for a redirection.
  std::string text;
  // What a page that consists of `.so man1/other.1` points at; else empty.
  std::string redirect;
};

// Never throws for what the source holds: unknown requests are left out as groff does, and runaway
// macros end the page early. Bytes that are no UTF-8 become U+FFFD.
ManPage man_page_text(std::string_view source);

}  // namespace switchyard
