#include "data/roff_characters.h"

#include <charconv>
#include <unordered_map>

#include "data/utf8.h"

namespace switchyard {
namespace {

// Quotes, dashes and the like are given in the ASCII form in which people type them.
const std::unordered_map<std::string_view, std::string_view>& named_characters() {
  static const std::unordered_map<std::string_view, std::string_view> table{
      {"-", "-"},   {"hy", "-"},  {"en", "–"},   {"em", "—"},   {"mi", "-"},      {"aq", "'"},
      {"dq", "\""}, {"oq", "‘"},  {"cq", "’"},   {"lq", "“"},   {"rq", "”"},      {"bq", "‚"},
      {"Bq", "„"},  {"Fo", "«"},  {"Fc", "»"},   {"fo", "‹"},   {"fc", "›"},      {"aa", "´"},
      {"ga", "`"},  {"ha", "^"},  {"ti", "~"},   {"rs", "\\"},  {"sl", "/"},      {"ba", "|"},
      {"br", "|"},  {"bv", "|"},  {"or", "|"},   {"bb", "¦"},   {"ul", "_"},      {"ru", "_"},
      {"at", "@"},  {"sh", "#"},  {"Do", "$"},   {"ct", "¢"},   {"Eu", "€"},      {"eu", "€"},
      {"Ye", "¥"},  {"Po", "£"},  {"Cs", "¤"},   {"Fn", "ƒ"},   {"co", "©"},      {"rg", "®"},
      {"tm", "™"},  {"sc", "§"},  {"ps", "¶"},   {"dg", "†"},   {"dd", "‡"},      {"bu", "•"},
      {"pc", "·"},  {"md", "⋅"},  {"ci", "○"},   {"sq", "□"},   {"lz", "◊"},      {"OK", "✓"},
      {"lB", "["},  {"rB", "]"},  {"lC", "{"},   {"rC", "}"},   {"la", "⟨"},      {"ra", "⟩"},
      {"de", "°"},  {"%0", "‰"},  {"fm", "′"},   {"sd", "″"},   {"mc", "µ"},      {"Of", "ª"},
      {"Om", "º"},  {"12", "½"},  {"14", "¼"},   {"34", "¾"},   {"S1", "¹"},      {"S2", "²"},
      {"S3", "³"},  {"r!", "¡"},  {"r?", "¿"},   {"pl", "+"},   {"eq", "="},      {"mu", "×"},
      {"tmu", "×"}, {"di", "÷"},  {"tdi", "÷"},  {"+-", "±"},   {"t+-", "±"},     {"-+", "∓"},
      {"**", "∗"},  {"<=", "≤"},  {">=", "≥"},   {"<<", "≪"},   {">>", "≫"},      {"!=", "≠"},
      {"==", "≡"},  {"ne", "≢"},  {"~=", "≅"},   {"~~", "≈"},   {"ap", "∼"},      {"pt", "∝"},
      {"if", "∞"},  {"sr", "√"},  {"sqrt", "√"}, {"sum", "∑"},  {"product", "∏"}, {"is", "∫"},
      {"pd", "∂"},  {"gr", "∇"},  {"no", "¬"},   {"tno", "¬"},  {"AN", "∧"},      {"OR", "∨"},
      {"fa", "∀"},  {"te", "∃"},  {"mo", "∈"},   {"nm", "∉"},   {"es", "∅"},      {"ca", "∩"},
      {"cu", "∪"},  {"sb", "⊂"},  {"sp", "⊃"},   {"ib", "⊆"},   {"ip", "⊇"},      {"<-", "←"},
      {"->", "→"},  {"ua", "↑"},  {"da", "↓"},   {"<>", "↔"},   {"va", "↕"},      {"lA", "⇐"},
      {"rA", "⇒"},  {"uA", "⇑"},  {"dA", "⇓"},   {"hA", "⇔"},   {"ts", "ς"},      {"ss", "ß"},
      {"AE", "Æ"},  {"ae", "æ"},  {"OE", "Œ"},   {"oe", "œ"},   {"IJ", "Ĳ"},      {"ij", "ĳ"},
      {"/O", "Ø"},  {"/o", "ø"},  {"/L", "Ł"},   {"/l", "ł"},   {"oA", "Å"},      {"oa", "å"},
      {"-D", "Ð"},  {"Sd", "ð"},  {"TP", "Þ"},   {"Tp", "þ"},   {".i", "ı"},      {"ff", "ff"},
      {"fi", "fi"}, {"fl", "fl"}, {"Fi", "ffi"}, {"Fl", "ffl"}, {"ah", "ˇ"},      {"ac", "¸"},
      {"ad", "¨"},  {"a-", "¯"},  {"a^", "^"},   {"a~", "~"},   {"ho", "˛"},      {"wp", "℘"},
      {"Im", "ℑ"},  {"Re", "ℜ"},  {"Ah", "ℵ"},   {"lh", "☜"},   {"rh", "☞"},      {"CR", "↵"},
      {"cd", "·"},  {"vc", "ˇ"},  {"SP", "♠"},   {"CL", "♣"},   {"HE", "♥"},      {"DI", "♦"},
      {"lt", "⎧"},  {"rt", "⎫"},  {"nb", " "},   {"hh", "-"},   {"an", "-"}};
  return table;
}

// \(:u, \('e, \(^a, \(,c ...: an accent before its letter, as Unicode's combining mark behind it
// would be; the composed characters, since text is composed everywhere else.
bool append_accented(std::string_view name, std::string& to) {
  struct Accent {
    char mark;
    std::string_view letters;
    std::u32string_view composed;
  };
  static constexpr Accent kAccents[] = {{'\'', "AEIOUYaeiouyCcNnSsZz", U"ÁÉÍÓÚÝáéíóúýĆćŃńŚśŹź"},
                                        {'`', "AEIOUaeiou", U"ÀÈÌÒÙàèìòù"},
                                        {'^', "AEIOUaeiou", U"ÂÊÎÔÛâêîôû"},
                                        {':', "AEIOUaeiouyY", U"ÄËÏÖÜäëïöüÿŸ"},
                                        {'~', "ANOano", U"ÃÑÕãñõ"},
                                        {'v', "SZszCcRrEeDdTt", U"ŠŽšžČčŘřĚěĎďŤť"},
                                        {',', "CcSs", U"ÇçŞş"},
                                        {'o', "Uu", U"Ůů"}};
  static constexpr std::string_view kGreekNames =
      "ABGDEZYHIKLMNCOPRSTUFXQWabgdezyhiklmncoprstufxqw";
  static constexpr std::u32string_view kGreek = U"ΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩαβγδεζηθικλμνξοπρστυφχψω";
  if (name.size() != 2) return false;
  if (name[0] == '*') {
    const size_t letter = kGreekNames.find(name[1]);
    if (letter == std::string_view::npos) return false;
    append_utf8(kGreek[letter], to);
    return true;
  }
  for (const Accent& accent : kAccents) {
    const size_t letter = accent.letters.find(name[1]);
    if (name[0] == accent.mark && letter != std::string_view::npos) {
      append_utf8(accent.composed[letter], to);
      return true;
    }
  }
  return false;
}

// \[u00E9] and \[u0065_0301]: 4 to 6 hexadecimal digits each.
bool append_by_code(std::string_view name, std::string& to) {
  std::string characters;
  while (!name.empty()) {
    const size_t end = std::min(name.find('_'), name.size());
    uint32_t code = 0;
    const auto [stop, error] = std::from_chars(name.data(), name.data() + end, code, 16);
    if (end < 4 || end > 6 || error != std::errc() || stop != name.data() + end) return false;
    append_utf8(code, characters);
    name.remove_prefix(std::min(end + 1, name.size()));
  }
  to += characters;
  return !characters.empty();
}

}  // namespace

bool append_roff_character(std::string_view name, std::string& to) {
  const auto found = named_characters().find(name);
  if (found != named_characters().end()) {
    to += found->second;
    return true;
  }
  if (append_accented(name, to)) return true;
  if (name.starts_with('u') && append_by_code(name.substr(1), to)) return true;
  if (name.starts_with("char")) {
    uint32_t code = 0;
    const auto [stop, error] = std::from_chars(name.data() + 4, name.data() + name.size(), code);
    if (error == std::errc() && stop == name.data() + name.size() && code >= 32 && code < 256) {
      append_utf8(code, to);
      return true;
    }
  }
  return false;
}

}  // namespace switchyard
