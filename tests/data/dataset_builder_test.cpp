#include "data/dataset_builder.h"

#include <gtest/gtest.h>
#include <sentencepiece_processor.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <zlib.h>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "base/errors.h"
#include "data/dataset.h"
#include "data/validation_split.h"
#include "support/llama_tokenizer.h"
#include "support/temporary_directory.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;
using std::string_literals::operator""s;

void write(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
}

void write_gzip(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  gzFile file = gzopen(path.c_str(), "wb");
  gzwrite(file, text.data(), static_cast<unsigned>(text.size()));
  gzclose(file);
}

std::string bytes_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// A few sentences that differ from number to number.
std::string prose(const std::string& language, int number) {
  std::string text;
  for (int sentence = 0; sentence < 12; ++sentence) {
    text += language + " satz nummer " + std::to_string(number * 31 + sentence) + " von " +
            std::to_string(number) + " mit wort" + std::to_string(sentence % 7) + " am ende.\n";
  }
  return text;
}

class DatasetBuilderTest : public testing::Test {
 protected:
  TemporaryDirectory directory_;
  const fs::path& root_ = directory_.path();
  fs::path output_ = root_ / "dataset";

  // Pages page0 .. page59 in two languages.
  void write_pages() {
    for (int i = 0; i < 60; ++i) {
      const std::string name = "man1/page" + std::to_string(i) + ".1.gz";
      write_gzip(root_ / "de" / name, ".TH PAGE 1\n.SH NAME\n" + prose("deutsch", i));
      write_gzip(root_ / "fr" / name, ".TH PAGE 1\n.SH NOM\n" + prose("francais", i));
    }
  }

  BuildOptions options() const {
    BuildOptions options;
    options.sources = {{"de", root_ / "de", TextFormat::kMan},
                       {"fr", root_ / "fr", TextFormat::kMan}};
    options.output = output_;
    options.validation_share = 0.2;
    options.tokenizer.vocabulary = 512;
    options.tokenizer.character_coverage = 1.0;
    return options;
  }

  // The text of each document of a split.
  static std::vector<std::string> texts(const Dataset& dataset, Split split) {
    std::vector<std::string> all;
    const TokenFile& tokens = dataset.tokens(split);
    for (int64_t d = 0; d < tokens.document_count(); ++d) {
      std::vector<int32_t> ids(tokens.document_begin(d + 1) - tokens.document_begin(d));
      tokens.read(tokens.document_begin(d), ids);
      all.push_back(dataset.tokenizer().decode(ids));
    }
    return all;
  }

  // What building says; "" when it succeeds.
  static std::string refusal(const BuildOptions& options) {
    try {
      build_dataset(options);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
};

TEST_F(DatasetBuilderTest, BuildsWhatItSays) {
  write_pages();
  std::vector<BuildProgress> progress;
  const BuildReport report =
      build_dataset(options(), [&](const BuildProgress& now) { progress.push_back(now); });
  EXPECT_TRUE(report.built);
  EXPECT_EQ(report.duplicates, 0);
  EXPECT_EQ(report.listing.total(Split::kTrain).documents +
                report.listing.total(Split::kValidation).documents,
            120);
  EXPECT_FALSE(fs::exists(root_ / "dataset.building"));
  std::set<std::string> files;
  for (const auto& entry : fs::directory_iterator(output_)) files.insert(entry.path().filename());
  EXPECT_EQ(files, (std::set<std::string>{"dataset.json", "tokenizer.model", "train.tokens",
                                          "validation.tokens"}));
  const Dataset dataset(output_);
  EXPECT_NO_THROW(dataset.verify());
  EXPECT_EQ(dataset.labels(), (std::vector<std::string>{"de", "fr"}));
  EXPECT_EQ(dataset.tokenizer().vocabulary() % 128, 0);
  EXPECT_LE(dataset.tokenizer().vocabulary(), 512);
  for (const Split split : kSplits) {
    const TokenFile& tokens = dataset.tokens(split);
    EXPECT_EQ(tokens.token_count(), report.listing.total(split).tokens);
    for (int64_t d = 1; d < tokens.document_count(); ++d) {
      EXPECT_LE(tokens.document_label(d - 1), tokens.document_label(d)) << "label by label";
    }
  }
  ASSERT_FALSE(progress.empty());
  EXPECT_EQ(progress.front().phase, BuildProgress::Phase::kRead);
  EXPECT_EQ(progress.back().phase, BuildProgress::Phase::kEncode);
  EXPECT_EQ(progress.back().bytes_done, progress.back().bytes_total);
}

TEST_F(DatasetBuilderTest, TextsSurvive) {
  write_pages();
  build_dataset(options());
  const Dataset dataset(output_);
  std::set<std::string> expected, found;
  for (int i = 0; i < 60; ++i) {
    for (const std::string language : {"deutsch", "francais"}) {
      // Filled into one line by roff, headings before it; the tokenizer makes spaces of newlines.
      std::string text =
          "PAGE(1) " + std::string(language == "deutsch" ? "NAME " : "NOM ") + prose(language, i);
      std::ranges::replace(text, '\n', ' ');
      text.pop_back();
      expected.insert(text);
    }
  }
  for (const Split split : kSplits) {
    for (const std::string& text : texts(dataset, split)) found.insert(text);
  }
  EXPECT_EQ(found, expected);
}

TEST_F(DatasetBuilderTest, TranslationsOfAPageAreOnOneSide) {
  write_pages();
  build_dataset(options());
  const Dataset dataset(output_);
  std::map<std::string, std::set<Split>> sides;
  for (const Split split : kSplits) {
    for (const std::string& text : texts(dataset, split)) {
      const size_t number = text.find(" von ") + 5;
      sides[text.substr(number, text.find(' ', number) - number)].insert(split);
    }
  }
  EXPECT_EQ(sides.size(), 60u);
  int validation = 0;
  for (const auto& [number, splits] : sides) {
    EXPECT_EQ(splits.size(), 1u) << "page " << number << " is trained on and validated with";
    validation += splits.contains(Split::kValidation);
  }
  EXPECT_GT(validation, 3);
  EXPECT_LT(validation, 25);
}

TEST_F(DatasetBuilderTest, RebuildingGivesTheSameBytesWhateverTheThreads) {
  write_pages();
  BuildOptions again = options();
  build_dataset(options());
  again.output = root_ / "again";
  again.threads = 5;
  build_dataset(again);
  for (const char* file :
       {"dataset.json", "tokenizer.model", "train.tokens", "validation.tokens"}) {
    EXPECT_EQ(bytes_of(output_ / file), bytes_of(again.output / file)) << file;
  }
}

TEST_F(DatasetBuilderTest, WhatIsCurrentIsKept) {
  write_pages();
  build_dataset(options());
  const auto time = fs::last_write_time(output_ / "train.tokens");
  BuildReport report = build_dataset(options());
  EXPECT_FALSE(report.built);
  EXPECT_EQ(report.listing.total(Split::kTrain).documents,
            Dataset(output_).listing().total(Split::kTrain).documents);
  EXPECT_EQ(fs::last_write_time(output_ / "train.tokens"), time);

  BuildOptions other = options();
  other.tokenizer.vocabulary = 640;
  EXPECT_TRUE(build_dataset(other).built) << "another vocabulary";
  EXPECT_GT(Dataset(output_).tokenizer().vocabulary(), 512);

  write_gzip(root_ / "de/man1/new.1.gz", prose("deutsch", 1000));
  EXPECT_TRUE(build_dataset(other).built) << "another file";

  std::string page = prose("deutsch", 1000);
  write(root_ / "de/man1/plain.1", page);
  EXPECT_TRUE(build_dataset(other).built);
  page[0] = 'D';
  write(root_ / "de/man1/plain.1", page);
  EXPECT_TRUE(build_dataset(other).built) << "a file of the same size, changed";

  fs::resize_file(output_ / "train.tokens", 100);
  EXPECT_TRUE(build_dataset(other).built) << "a damaged dataset";
  EXPECT_NO_THROW(Dataset(output_).verify());
}

TEST_F(DatasetBuilderTest, AliasesAndCopiesAreDroppedAndStayTogether) {
  write_pages();
  for (int i = 0; i < 60; ++i) {
    const std::string number = std::to_string(i);
    fs::create_symlink("page" + number + ".1.gz", root_ / "de/man1" / ("link" + number + ".1.gz"));
    write_gzip(root_ / "de/man1" / ("so" + number + ".1.gz"), ".so man1/page" + number + ".1\n");
    write_gzip(root_ / "fr/man1" / ("copy" + number + ".1.gz"),
               ".TH PAGE 1\n.SH NOM\n" + prose("francais", i));
    // Translations that go by the alias's name have texts of their own.
    write_gzip(root_ / "fr/man1" / ("link" + number + ".1.gz"), prose("alias", i));
    write_gzip(root_ / "fr/man1" / ("so" + number + ".1.gz"), prose("verweis", i));
    write_gzip(root_ / "de/man1" / ("copy" + number + ".1.gz"), prose("kopie", i));
  }
  const BuildReport report = build_dataset(options());
  EXPECT_EQ(report.duplicates, 60);
  EXPECT_EQ(report.without_text, 60);
  const Dataset dataset(output_);
  std::map<std::string, std::set<Split>> sides;
  size_t count = 0;
  for (const Split split : kSplits) {
    for (const std::string& text : texts(dataset, split)) {
      const size_t number = text.find(" von ") + 5;
      sides[text.substr(number, text.find(' ', number) - number)].insert(split);
      ++count;
    }
  }
  EXPECT_EQ(count, 5u * 60);
  for (const auto& [number, splits] : sides) EXPECT_EQ(splits.size(), 1u) << number;
}

TEST_F(DatasetBuilderTest, PlainAndGzippedText) {
  for (int i = 0; i < 40; ++i) {
    write(root_ / "plain" / ("a" + std::to_string(i) + ".txt"), prose("eins", i));
    write_gzip(root_ / "packed" / ("b" + std::to_string(i) + ".txt.gz"), prose("zwei", i));
  }
  write(root_ / "plain/.hidden", prose("verborgen", 1));
  write(root_ / "plain/blank.txt", " \n\t\n");
  write(root_ / "plain/bytes.txt", "null\0 und \xFF"s + prose("eins", 77));
  std::string picture = "\x89PNG\r\n\x1A\n";
  for (uint32_t i = 0; i < 5000; ++i) picture += static_cast<char>(i * 2654435761u >> 24);
  write(root_ / "plain/picture.png", picture);
  BuildOptions options = this->options();
  options.sources = {{"eins", root_ / "plain", TextFormat::kText},
                     {"zwei", root_ / "packed", TextFormat::kGzip},
                     {"eins", root_ / "plain/a0.txt", TextFormat::kText}};
  const BuildReport report = build_dataset(options);
  EXPECT_EQ(report.duplicates, 1) << "a0.txt comes twice";
  EXPECT_EQ(report.without_text, 2) << "the blank file and the picture";
  EXPECT_EQ(Dataset(output_).labels(), (std::vector<std::string>{"eins", "zwei"}));
  const auto counts = report.listing.counts;
  EXPECT_EQ(counts[0][0].documents + counts[1][0].documents, 41);
  EXPECT_EQ(counts[0][1].documents + counts[1][1].documents, 40);
}

TEST_F(DatasetBuilderTest, LinesOfTextWithALabelColumn) {
  std::string lines;
  for (int i = 0; i < 80; ++i) {
    lines += nlohmann::json{{"content", prose(i % 2 == 0 ? "eins" : "zwei", i)},
                            {"lang", i % 2 == 0 ? "de" : "fr"}}
                 .dump() +
             "\n";
  }
  write(root_ / "lines.jsonl", lines + lines.substr(0, lines.find('\n') + 1));
  write_gzip(root_ / "more/lines.jsonl.gz",
             nlohmann::json{{"content", prose("drei", 5)}, {"lang", 7}}.dump());
  BuildOptions options = this->options();
  const LineKeys keys{.text = "content", .label = "lang"};
  options.sources = {{"", root_ / "lines.jsonl", TextFormat::kJsonl, keys},
                     {"", root_ / "more", TextFormat::kJsonl, keys}};
  const BuildReport report = build_dataset(options);
  EXPECT_EQ(report.duplicates, 1);
  const Dataset dataset(output_);
  EXPECT_EQ(dataset.labels(), (std::vector<std::string>{"de", "fr", "7"}));
  const auto& counts = report.listing.counts;
  EXPECT_EQ(counts[0][0].documents + counts[1][0].documents, 40);
  EXPECT_EQ(counts[0][1].documents + counts[1][1].documents, 40);
  EXPECT_EQ(counts[0][2].documents + counts[1][2].documents, 1);
  EXPECT_NO_THROW(dataset.verify());
  for (const Split split : kSplits) {
    for (const std::string& text : texts(dataset, split)) {
      EXPECT_NE(text.find(" satz nummer "), std::string::npos);
    }
  }

  // Which side a line is on follows from what it says, not from where it stands.
  const std::vector<std::string> before = texts(dataset, Split::kValidation);
  write(root_ / "lines.jsonl", "\n" + lines);
  EXPECT_TRUE(build_dataset(options).built);
  EXPECT_EQ(texts(Dataset(output_), Split::kValidation), before);
}

TEST_F(DatasetBuilderTest, PairsStandSideBySide) {
  std::string lines;
  for (int i = 0; i < 60; ++i) {
    const std::string number = std::to_string(i / 2);  // two answers to every question
    lines += nlohmann::json{{"q", "frage nummer " + number + " von allen"},
                            {"a", "antwort " + std::to_string(i) + " auf " + number}}
                 .dump() +
             "\n";
  }
  write(root_ / "pairs.jsonl",
        lines + R"({"q": "ohne", "a": "  "})" + "\n" + lines.substr(0, lines.find('\n')));
  BuildOptions options = this->options();
  options.examples = ExampleKind::kPairs;
  options.tokenizer.vocabulary = 384;
  options.sources = {
      {"qa", root_ / "pairs.jsonl", TextFormat::kJsonl, {.inputs = "q", .targets = "a"}}};
  const BuildReport report = build_dataset(options);
  EXPECT_EQ(report.duplicates, 1);
  EXPECT_EQ(report.without_text, 1);
  EXPECT_EQ(report.listing.total(Split::kTrain).documents +
                report.listing.total(Split::kValidation).documents,
            60);
  const Dataset dataset(output_);
  EXPECT_EQ(dataset.listing().examples, ExampleKind::kPairs);
  std::map<std::string, std::set<Split>> sides;
  for (const Split split : kSplits) {
    const std::vector<std::string> all = texts(dataset, split);
    for (size_t i = 0; i < all.size(); i += 2) {
      const std::string number = all[i].substr(13, all[i].find(" von") - 13);
      EXPECT_EQ(all[i], "frage nummer " + number + " von allen");
      EXPECT_TRUE(all[i + 1].ends_with(" auf " + number)) << all[i + 1];
      sides[number].insert(split);
    }
  }
  EXPECT_EQ(sides.size(), 30u);
  for (const auto& [number, splits] : sides) {
    EXPECT_EQ(splits.size(), 1u) << "question " << number << " is on both sides";
  }
}

TEST_F(DatasetBuilderTest, IdsNeedNoTokenizer) {
  std::string lines;
  for (int i = 0; i < 40; ++i) {
    lines += nlohmann::json{{"ids", std::vector<int>{i, 0, 70'000 + i}}}.dump() + "\n";
  }
  write(root_ / "ids.jsonl", lines);
  BuildOptions options = this->options();
  options.vocabulary = Vocabulary{.size = 100'000, .eos = 99'999};
  options.sources = {{"x", root_ / "ids.jsonl", TextFormat::kJsonl, {.text = "ids"}}};
  build_dataset(options);
  EXPECT_FALSE(fs::exists(output_ / "tokenizer.model"));
  const Dataset dataset(output_);
  EXPECT_EQ(dataset.vocabulary(), *options.vocabulary);
  std::set<int32_t> first;
  for (const Split split : kSplits) {
    const TokenFile& tokens = dataset.tokens(split);
    for (int64_t d = 0; d < tokens.document_count(); ++d) {
      std::vector<int32_t> ids(3);
      ASSERT_EQ(tokens.document_begin(d + 1) - tokens.document_begin(d), 3);
      tokens.read(tokens.document_begin(d), ids);
      EXPECT_EQ(ids, (std::vector<int32_t>{ids[0], 0, 70'000 + ids[0]}));
      first.insert(ids[0]);
    }
  }
  EXPECT_EQ(first.size(), 40u);
  EXPECT_FALSE(build_dataset(options).built);
  options.vocabulary->pad = 50'000;
  EXPECT_TRUE(build_dataset(options).built) << "another vocabulary";
}

TEST_F(DatasetBuilderTest, WrongLinesAreNamedWithFileAndLine) {
  write(root_ / "lines.jsonl", "{\"text\": \"" + std::string(50, 'a') + "\"}\n\n{\"txt\": 1}\n");
  BuildOptions options = this->options();
  options.sources = {{"x", root_ / "lines.jsonl", TextFormat::kJsonl}};
  const std::string reason = refusal(options);
  EXPECT_NE(reason.find("lacks \"text\""), std::string::npos) << reason;
  EXPECT_NE(reason.find("lines.jsonl:3"), std::string::npos) << reason;
  EXPECT_FALSE(fs::exists(output_));

  std::string labels;
  for (int i = 0; i < 1001; ++i) {
    labels += nlohmann::json{{"text", "t" + std::to_string(i)}, {"l", i}}.dump() + "\n";
  }
  write(root_ / "lines.jsonl", labels);
  options.sources[0].keys.label = "l";
  EXPECT_NE(refusal(options).find("more than 1000 labels"), std::string::npos);
}

TEST_F(DatasetBuilderTest, TakesATokenizerFromElsewhere) {
  write_pages();
  build_dataset(options());
  BuildOptions second = options();
  second.output = root_ / "second";
  second.sources.pop_back();
  second.tokenizer_model = output_;
  build_dataset(second);
  EXPECT_EQ(bytes_of(root_ / "second/tokenizer.model"), bytes_of(output_ / "tokenizer.model"));
  EXPECT_FALSE(build_dataset(second).built);
  BuildOptions other = options();
  other.tokenizer.vocabulary = 640;
  build_dataset(other);
  EXPECT_TRUE(build_dataset(second).built) << "the tokenizer there has changed";
}

// White space included, which that tokenizer keeps; each text, or a pair's inputs, with its
// beginning.
TEST_F(DatasetBuilderTest, KeepsTheIdsOfLlamasTokenizer) {
  std::ofstream(root_ / "llama.model", std::ios::binary) << llama_tokenizer();
  sentencepiece::SentencePieceProcessor library;
  ASSERT_TRUE(library.LoadFromSerializedProto(llama_tokenizer()).ok());
  std::ofstream lines(root_ / "pairs.jsonl"), texts(root_ / "texts.jsonl");
  std::vector<std::vector<int>> expected;  // of the pairs' sides
  for (int i = 0; i < 12; ++i) {
    const std::string number = std::to_string(i);
    const std::string inputs = "abc  def\n\n" + number, targets = " hik " + number;
    lines << nlohmann::json{{"inputs", inputs}, {"targets", targets}} << "\n";
    texts << nlohmann::json{{"text", inputs}} << "\n";
    for (const std::string& side : {inputs, targets}) {
      ASSERT_TRUE(library.Encode(side, &expected.emplace_back()).ok());
    }
    expected[expected.size() - 2].insert(expected[expected.size() - 2].begin(), 1);
  }
  lines.close();
  texts.close();
  for (const ExampleKind examples : {ExampleKind::kPairs, ExampleKind::kText}) {
    const bool pairs = examples == ExampleKind::kPairs;
    BuildOptions options;
    options.sources = {{"a", root_ / (pairs ? "pairs.jsonl" : "texts.jsonl"), TextFormat::kJsonl}};
    options.output = root_ / name_of(examples);
    options.validation_share = 0;
    options.examples = examples;
    options.tokenizer_model = root_ / "llama.model";
    build_dataset(options);
    const Dataset dataset(options.output);
    EXPECT_EQ(dataset.vocabulary(), (Vocabulary{.size = kLlamaPieces, .eos = 2}));
    const TokenFile& tokens = dataset.tokens(Split::kTrain);
    ASSERT_EQ(tokens.document_count(), pairs ? 24 : 12);
    for (int64_t d = 0; d < tokens.document_count(); ++d) {
      std::vector<int32_t> ids(
          static_cast<size_t>(tokens.document_begin(d + 1) - tokens.document_begin(d)));
      tokens.read(tokens.document_begin(d), ids);
      EXPECT_EQ(ids, expected[static_cast<size_t>(pairs ? d : 2 * d)]) << d;
    }
  }
}

TEST_F(DatasetBuilderTest, NamesTheSettingThatDiffers) {
  write_pages();
  const BuildReport report = build_dataset(options());
  EXPECT_EQ(setting_that_differs(report.listing, options()), "");
  const auto differs = [&](const std::function<void(BuildOptions&)>& change) {
    BuildOptions changed = options();
    change(changed);
    return setting_that_differs(report.listing, changed);
  };
  EXPECT_EQ(differs([](auto& o) { o.tokenizer.vocabulary = 640; }), "tokenizer.vocabulary");
  EXPECT_EQ(differs([](auto& o) { o.validation_share = 0.1; }), "validation_share");
  EXPECT_EQ(differs([](auto& o) { o.sources.pop_back(); }), "sources");
  EXPECT_EQ(differs([](auto& o) { o.tokenizer_model = "x"; }), "tokenizer.model");
  EXPECT_EQ(differs([](auto& o) { o.threads = 7; }), "");
}

TEST_F(DatasetBuilderTest, SourcesThatDoNotDoAreNamed) {
  write_pages();
  const auto with_source = [&](const TextSource& source) {
    BuildOptions changed = options();
    changed.sources.push_back(source);
    return refusal(changed);
  };
  EXPECT_NE(with_source({"xx", root_ / "nowhere", TextFormat::kText}).find("nowhere"),
            std::string::npos);
  fs::create_directory(root_ / "empty");
  EXPECT_NE(with_source({"xx", root_ / "empty", TextFormat::kText}).find("holds no file"),
            std::string::npos);
  EXPECT_NE(with_source({"", root_ / "de", TextFormat::kText}).find("no label"), std::string::npos);
  write(root_ / "bad/a.gz", "this is no gzip");
  EXPECT_NE(with_source({"xx", root_ / "bad", TextFormat::kGzip}).find("bad/a.gz"),
            std::string::npos);
  write_gzip(root_ / "cut/a.gz", prose("x", 1));
  fs::resize_file(root_ / "cut/a.gz", fs::file_size(root_ / "cut/a.gz") - 9);
  EXPECT_NE(with_source({"xx", root_ / "cut", TextFormat::kGzip}).find("cut/a.gz"),
            std::string::npos);
  EXPECT_NE(with_source({"xx", root_ / "cut", TextFormat::kMan}).find("cut/a.gz"),
            std::string::npos);
  BuildOptions none = options();
  none.sources.clear();
  EXPECT_NE(refusal(none), "");
  EXPECT_FALSE(fs::exists(output_));
  EXPECT_FALSE(fs::exists(root_ / "dataset.building"));
}

TEST_F(DatasetBuilderTest, OneDocumentCannotBeSplit) {
  write(root_ / "one.txt", prose("eins", 1) + prose("zwei", 2));
  BuildOptions options = this->options();
  options.sources = {{"x", root_ / "one.txt", TextFormat::kText}};
  EXPECT_NE(refusal(options).find("each file is one document"), std::string::npos);
  options.validation_share = 0;
  EXPECT_EQ(refusal(options), "");
  EXPECT_EQ(Dataset(output_).tokens(Split::kValidation).document_count(), 0);
}

TEST_F(DatasetBuilderTest, OtherFoldersAreLeftAlone) {
  write_pages();
  write(output_ / "thesis.txt", "years of work");
  EXPECT_NE(refusal(options()).find("holds something else"), std::string::npos);
  EXPECT_EQ(bytes_of(output_ / "thesis.txt"), "years of work");
  fs::remove(output_ / "thesis.txt");
  EXPECT_EQ(refusal(options()), "") << "an empty folder is replaced";
}

TEST_F(DatasetBuilderTest, RemainsOfAnInterruptedBuildAreCleared) {
  write_pages();
  write(root_ / "dataset.building/train.tokens", "half");
  write(root_ / "dataset.building/texts.tmp", "half");
  EXPECT_EQ(refusal(options()), "");
  EXPECT_NO_THROW(Dataset(output_).verify());
  EXPECT_FALSE(fs::exists(output_ / "texts.tmp"));
}

TEST_F(DatasetBuilderTest, TwoBuildsAtOnceAreRefused) {
  write_pages();
  fs::create_directory(root_ / "dataset.building");
  const int other = ::open((root_ / "dataset.building").c_str(), O_RDONLY | O_DIRECTORY);
  ASSERT_EQ(::flock(other, LOCK_EX), 0);
  EXPECT_NE(refusal(options()).find("another process is building"), std::string::npos);
  EXPECT_TRUE(fs::exists(root_ / "dataset.building")) << "it is the other's";
  ::close(other);
  EXPECT_EQ(refusal(options()), "");
}

// Stopped at every point where it says something: what lies there afterwards is the dataset from
// before, or none.
TEST_F(DatasetBuilderTest, InterruptionLeavesTheOldDatasetWhole) {
  write_pages();
  build_dataset(options());
  const std::string before = bytes_of(output_ / "dataset.json");
  BuildOptions other = options();
  other.validation_share = 0.3;
  int calls = 0;
  BuildOptions counted = other;
  counted.output = root_ / "count";
  build_dataset(counted, [&](const BuildProgress&) { ++calls; });
  ASSERT_GE(calls, 4);
  for (int stop = 1; stop <= calls; ++stop) {
    int call = 0;
    EXPECT_THROW(build_dataset(other,
                               [&](const BuildProgress&) {
                                 if (++call == stop) throw std::runtime_error("stopped");
                               }),
                 std::runtime_error);
    EXPECT_EQ(bytes_of(output_ / "dataset.json"), before);
    EXPECT_NO_THROW(Dataset(output_).verify());
    EXPECT_FALSE(fs::exists(root_ / "dataset.building"));
  }
}

// A limit on the size of files stands in for a full disk here; OutputFile's own test uses
// /dev/full.
TEST_F(DatasetBuilderTest, AFailedWriteLeavesNoDataset) {
  write_pages();
  rlimit old{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
  const auto previous = std::signal(SIGXFSZ, SIG_IGN);  // EFBIG instead of a signal
  const rlimit limited{20'000, old.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limited), 0);
  const std::string reason = refusal(options());
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &old), 0);
  std::signal(SIGXFSZ, previous);
  EXPECT_NE(reason.find("failed"), std::string::npos) << reason;
  EXPECT_FALSE(fs::exists(output_));
  EXPECT_FALSE(fs::exists(root_ / "dataset.building"));
}

TEST(DocumentName, LeavesOutLanguageCompressionAndSection) {
  EXPECT_EQ(document_name("de/man1/tar.1.gz", TextFormat::kMan), "tar");
  EXPECT_EQ(document_name("man3/Foo::Bar.3pm.gz", TextFormat::kMan), "Foo::Bar");
  EXPECT_EQ(document_name("man1/git-log.1", TextFormat::kMan), "git-log");
  EXPECT_EQ(document_name("a/b.txt.gz", TextFormat::kGzip), "b.txt");
  EXPECT_EQ(document_name("a/b.txt", TextFormat::kText), "b.txt");
}

TEST(ValidationSplit, UnitedNamesGoTogetherInAnyOrder) {
  ValidationSplit forward, backward;
  for (int i = 0; i < 300; ++i) {
    forward.unite("n" + std::to_string(i), "n" + std::to_string(i % 100));
    backward.unite("n" + std::to_string((299 - i) % 100), "n" + std::to_string(299 - i));
  }
  int held_out = 0;
  for (int i = 0; i < 300; ++i) {
    const std::string name = "n" + std::to_string(i);
    EXPECT_EQ(forward.is_validation(name, 0.3), backward.is_validation(name, 0.3));
    EXPECT_EQ(forward.is_validation(name, 0.3),
              forward.is_validation("n" + std::to_string(i % 100), 0.3));
    held_out += forward.is_validation(name, 0.3);
  }
  EXPECT_GT(held_out, 0);
  EXPECT_LT(held_out, 300);
}

TEST(ValidationSplit, HoldsOutTheShare) {
  ValidationSplit split;
  int some = 0;
  for (int i = 0; i < 10'000; ++i) {
    const std::string name = "page" + std::to_string(i);
    some += split.is_validation(name, 0.05);
    EXPECT_FALSE(split.is_validation(name, 0.0));
    EXPECT_TRUE(split.is_validation(name, 1.0));
    EXPECT_LE(split.is_validation(name, 0.05), split.is_validation(name, 0.1)) << "nested";
  }
  EXPECT_NEAR(some, 500, 110);  // 5 standard deviations
}

}  // namespace
}  // namespace switchyard
