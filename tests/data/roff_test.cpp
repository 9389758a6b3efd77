#include "data/roff.h"

#include <gtest/gtest.h>

#include "data/utf8.h"

namespace switchyard {
namespace {

std::string text(std::string_view source) { return man_page_text(source).text; }

TEST(Roff, HeadingsParagraphsAndFilling) {
  EXPECT_EQ(text(".TH LS 1 \"2022\" GNU\n"
                 ".SH BEZEICHNUNG\n"
                 "ls \\- Verzeichnisinhalte\n"
                 "   auflisten\n"
                 ".PP\n"
                 "Zweiter Absatz,\n"
                 "zwei  Zeilen.\n"
                 ".SS \"Ein Unterpunkt\"\n"
                 "Text\n"),
            "LS(1)\n\nBEZEICHNUNG\nls - Verzeichnisinhalte\nauflisten\n\n"
            "Zweiter Absatz, zwei Zeilen.\n\nEin Unterpunkt\nText\n");
}

TEST(Roff, AHeadingMayStandOnTheNextLine) { EXPECT_EQ(text(".SH\nNAME\nx\n"), "NAME\nx\n"); }

TEST(Roff, FontsAndSizesVanish) {
  EXPECT_EQ(text("\\fBfett\\fP \\fIkursiv\\fR \\f(CWtt\\f[R] \\s-1KLEIN\\s+1 \\s0a \\s10b"),
            "fett kursiv tt KLEIN a b\n");
  EXPECT_EQ(text(".B fett\n.I kursiv \"zwei Wörter\"\n.SM klein"),
            "fett kursiv zwei Wörter klein\n");
  EXPECT_EQ(text(".BR open (2)\n.IR datei ,\n.BI \\-\\-block\\-size= ZAHL\n.RB [ \\-a ]"),
            "open(2) datei, --block-size=ZAHL [-a]\n");
  EXPECT_EQ(text(".B\nnur die nächste Zeile\n"), "nur die nächste Zeile\n");
}

TEST(Roff, SpecialCharacters) {
  EXPECT_EQ(text("\\(co 2022 \\(:a\\(ss\\('e \\[u00e9] \\[u0065_0301] \\(bu \\(aq\\(dq \\e \\[em]"),
            "© 2022 äßé é e\u0301 • '\" \\ —\n");
  EXPECT_EQ(
      text("a\\-b \\'x\\` 5\\ km 1\\0000 a\\|b\\^c \\&.x \\%wort \\(lqq\\(rq \\(*a \\[char176]"),
      "a-b 'x` 5 km 1 000 abc .x wort “q” α °\n");
  EXPECT_EQ(text("\\(zz\\[unknown]x \\C'co' \\N'65'"), "x © A\n");
}

TEST(Roff, EveryHexadecimalFormIsChecked) {
  EXPECT_EQ(text("a\\[u110000]b"),
            "a\uFFFD"
            "b\n");
  EXPECT_EQ(text("a\\[u12]\\[uXYZW]\\[u]\\[u00e9_]b"), "aéb\n");
}

TEST(Roff, CommentsVanish) {
  EXPECT_EQ(text(".\\\" Kommentar\n'\\\" noch einer\nText\\\" dahinter\n.B fett \\\" und hier\n"
                 ".\n\\# ganze Zeile\n"),
            "Text fett\n");
}

TEST(Roff, MovesAndDrawingsVanish) {
  EXPECT_EQ(text("a\\h'-1n'b \\v'1'c\\l'3i'd \\D'l 1 2'e \\w'abc'f \\k(xxg \\m[red]h\\m[]"),
            "ab cd e 3f g h\n");
  EXPECT_EQ(text("x\\h'\\w'ab'u'y"), "x y\n");
}

TEST(Roff, ListsPutShortTagsBesideTheirText) {
  EXPECT_EQ(text(".TP\n.B \\-\\-all\nalles\n.TP\n\\fB\\-a\\fR\nkurz\n.IP \\(bu 2\nPunkt\n.IP\n"
                 "ohne\n.TP\n.B eins\n.TQ\n.B zwei-lang\nText"),
            "--all\nalles\n\n-a kurz\n\n• Punkt\n\nohne\n\neins\nzwei-lang\nText\n");
}

TEST(Roff, UnfilledTextKeepsItsLines) {
  EXPECT_EQ(text("vor\n.nf\nint  a;\n    b\n\n.B c\n.fi\nnach\nher\n.EX\nx\ny\n.EE\n"),
            "vor\nint  a;\n    b\n\nc\nnach her\nx\ny\n");
}

TEST(Roff, ContinuedLines) {
  EXPECT_EQ(text("eins\\\nzwei drei\\c\nvier\n"), "einszwei dreivier\n");
  EXPECT_EQ(text(".BR a \\\nb\n"), "ab\n");
  EXPECT_EQ(text(".TP\n.B a\\c\n.I bcdef\nText\n"), "abcdef\nText\n");
}

TEST(Roff, ChineseAndJapaneseLinesJoinWithoutSpaces) {
  EXPECT_EQ(text("これは日本\n語です。\nabc\n中文\n"), "これは日本語です。 abc 中文\n");
}

TEST(Roff, Links) {
  EXPECT_EQ(text("Siehe\n.UR https://example.org/\ndie Seite\n.UE .\n.MT a@b.c\nMarie\n.ME\n"),
            "Siehe die Seite <https://example.org/>. Marie <a@b.c>\n");
}

TEST(Roff, StringsAndRegisters) {
  EXPECT_EQ(text(".ds Na Wert\n.as Na \" mehr\n.ds xx \\*(Na!\nDer \\*(Na, \\*[xx] \\*(zz.\n"),
            "Der Wert mehr, Wert mehr! .\n");
  EXPECT_EQ(text(".nr a 5\n.nr a +2\n.nr b \\na*2\n\\na \\nb \\n(zz\n"), "7 14 0\n");
}

TEST(Roff, Conditions) {
  EXPECT_EQ(text(".if n ja\n.if t nein\n.if !t doch\n.ie t nein\n.el sonst\n"), "ja doch sonst\n");
  EXPECT_EQ(text(".if '\\*(x'' leer\n.if 'a'b' nein\n.if !'a'b' un\n.if \\n(.g gnu\n"),
            "leer un gnu\n");
  EXPECT_EQ(text(".if 2*3>5 a\n.if 2>3 b\n.if (1+1)=2&1 c\n.if !(1) d\n.if 5/0 e\n"), "a c\n");
  EXPECT_EQ(text(".ie \\n(.g .B x\n.el .B y\n.if d Na z\n.ds Na .\n.if d Na w\n"), "x w\n");
}

TEST(Roff, ConditionalBlocks) {
  EXPECT_EQ(text(".if n \\{\\\neins\n.B zwei\n.\\}\n.if t \\{\\\nnein\n.if n \\{ nein\n.\\}\n"
                 "nein\n.\\}\ndrei\n.ie t \\{\nnein \\}\n.el \\{vier\n.\\}\n"),
            "eins zwei drei vier\n");
}

TEST(Roff, MacrosOfThePage) {
  EXPECT_EQ(text(".de Ab\n.B \"\\\\$1\" mit \\\\$2, \\\\n(.$ Stück\n..\n.Ab \"ein Wort\" zwei\n"),
            "ein Wort mit zwei, 2 Stück\n");
  EXPECT_EQ(text(".de X ende\nnicht\n.ende\n.ig\nweg\n..\n.X\nda\n.rm X\n.X\n"), "nicht da\n");
  EXPECT_EQ(text(".de SH\nfalsch\n..\n.SH NAME\nx\n"), "NAME\nx\n") << "known macros stay ours";
}

TEST(Roff, PodPreambleLeavesNothing) {
  EXPECT_EQ(text(".de Sp \\\" Vertical space\n.if t .sp .5v\n.if n .sp\n..\n"
                 ".tr \\(*W-\n.ds C+ C\\v'-.1v'\\h'-1p'\\s-2+\\h'-1p'+\\s0\n"
                 ".ie n \\{\\\n.    ds -- \\(*W-\n.    ds PI pi\n'br\\}\n.el\\{\\\n"
                 ".    ds -- \\|\\(em\\|\n'br\\}\n"
                 ".if !\\nF .nr F 0\n.if \\nF>0 \\{\\\n.    de IX\n.    tm Index\n..\n.\\}\n"
                 ".IX Title \"PERL 1\"\n.TH PERL 1\n\\*(C+ \\*(-- \\*(C`x\\*(C'\n"),
            "PERL(1)\nC++ -- \"x\"\n");
}

TEST(Roff, Tables) {
  EXPECT_EQ(text("vor\n.TS\nallbox tab(:);\nlb lb\nl l.\nName:Wert\n_\na:T{\nlanger\n.B Text\nT}\n"
                 "b:\\-1\n.TE\nnach\n"),
            "vor\n\nName  Wert\na  langer Text\nb  -1\n\nnach\n");
  EXPECT_EQ(text(".TS\nl\tl.\na\tb\n.T&\nl.\nc\n.TE\n"), "a  b\nc\n");
}

TEST(Roff, EquationsAndPicturesVanish) {
  EXPECT_EQ(text("a\n.EQ\nx sup 2\n.EN\nb\n.PS\nbox\n.PE\nc\n"), "a b c\n");
}

TEST(Roff, RedirectionsAreNoText) {
  const ManPage page = man_page_text(".\\\" alias\n.so man1/gzip.1\n");
  EXPECT_EQ(page.text, "");
  EXPECT_EQ(page.redirect, "man1/gzip.1");
  EXPECT_EQ(man_page_text(".TH X 1\n.so man1/gzip.1\ntext\n").redirect, "");
  EXPECT_EQ(man_page_text("").redirect, "");
}

TEST(Roff, Mdoc) {
  EXPECT_EQ(
      text(".Dd 1. Januar 2020\n.Dt FTPD 8\n.Os\n.Sh NAME\n.Nm ftpd\n.Nd Server\n"
           ".Sh ÜBERSICHT\n.Nm\n.Op Fl adD\n.Op Fl u Ar maske , Ns Ar x\n.Ar\n"
           ".Sh BESCHREIBUNG\nDas Programm\n.Nm ,\nsiehe\n.Xr ftp 1 ,\n.Pa /etc/ftpusers .\n"
           ".Pp\n.Dq Wort\nund\n.Pq Sq a .\n"),
      "FTPD(8)\n\nNAME\nftpd – Server\n\nÜBERSICHT\nftpd [-adD] [-u maske,x] file ...\n\n"
      "BESCHREIBUNG\nDas Programm ftpd, siehe ftp(1), /etc/ftpusers.\n\n\"Wort\" und ('a').\n");
}

TEST(Roff, MdocListsAndFunctions) {
  EXPECT_EQ(text(".Dd x\n.Dt X 3\n.Bl -tag -width Ds\n.It Fl v Ar stufe\nredselig\n.It Ev HOME\n"
                 "Heim\n.El\n.Bl -bullet\n.It\nPunkt\n.El\n.Bd -literal\nint  a;\n.Ed\n"
                 ".Fn open \"const char *path\" \"int flags\"\n.In stdio.h\n.Oo\n.Fl a\n.Oc\n"),
            "X(3)\n\n-v stufe\nredselig\n\nHOME Heim\n\n• Punkt\n\nint  a;\n\n"
            "open(const char *path, int flags) #include <stdio.h> [-a]\n");
}

TEST(Roff, OtherEncodingsGiveReplacementCharacters) {
  EXPECT_EQ(text("Gr\xFC\xDF"
                 "e\n"),
            "Gr\uFFFD\uFFFD"
            "e\n");
}

// Sources meant to run away, to recurse or to confuse: an end, and valid text, are all that is
// asked.
TEST(Roff, HostilePagesEnd) {
  std::vector<std::string> pages{
      ".de A\n.A\n.A\n..\n.A\n",
      ".de A\n\\\\$*\\\\$*\\\\$*\n.A \\\\$*\\\\$*\\\\$*\\\\$*\n..\n.A xxxxxxxxxxxxxxxxxxxxxxxxx\n",
      ".ds a \\*b\\*b\\*b\\*b\\*b\n.ds b \\*a\\*a\\*a\\*a\\*a\n\\*a\n",
      ".de A\n.de A\n..\n",
      ".if \\n",
      ".if '",
      ".if 'a",
      ".ie",
      ".el",
      ".ds",
      ".as",
      ".nr",
      ".rn a",
      ".TS",
      ".TS\nl.\nT{\n",
      ".EQ\n",
      ".ig",
      ".de",
      ".am A",
      ".so",
      ".UE",
      ".TP",
      ".SH",
      ".It",
      ".El",
      ".Dd\n.It\n.El\n.El\n.Fn\n.Xr\n.Pf\n.In\n.Op\n.Nm\n.Fl\n.Oc\n",
      "\\",
      "\\f",
      "\\f(",
      "\\f[",
      "\\*",
      "\\*[",
      "\\(",
      "\\(x",
      "\\[",
      "\\[]",
      "\\h'",
      "\\s",
      "\\s'",
      "\\s(",
      "\\w'\\w'\\w'",
      "\\o''",
      "\\N''",
      "\\C''",
      "\\n",
      "\\n+",
      "\\$",
      "\\$1",
      "\\z",
      "'",
      ".",
      "..",
      "\\c",
      "\x00\x01\x02",
      ".nr a 99999999999999999999\n.nr a \\na*\\na*\\na*\\na\n.if \\na-\\na/0%0 x\n",
  };
  std::string nested = ".if n ", deep = "\\w'", parentheses = ".if ", nops, tables, growing;
  for (int i = 0; i < 4'000; ++i) {
    nested += ".if n ";
    deep += "\\w'";
    parentheses += '(';
    nops += ".nop ";
    tables += ".TS\nl.\n";
    growing += ".as a \\\\*a\\\\*ax\n";
  }
  pages.insert(pages.end(), {nested, deep, parentheses, nops, tables, growing + "\\*a\n",
                             ".if " + std::string(30'000, '!') + "n x\n",
                             ".if " + std::string(30'000, '-') + "1 x\n"});
  for (const std::string& page : pages) {
    const ManPage result = man_page_text(page);
    EXPECT_TRUE(is_valid_utf8(result.text)) << page.substr(0, 60);
    EXPECT_LT(result.text.size(), page.size() * 20 + (4 << 20)) << page.substr(0, 60);
  }
}

}  // namespace
}  // namespace switchyard
