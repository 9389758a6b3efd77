// The report as a browser shows it: on a desk, on a phone, in the dark, on paper. Skipped where
// there is no chromium.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>

#include "report/html_report.h"
#include "report/jsonl_sink.h"
#include "report/made_up_run.h"
#include "report/png.h"
#include "report/svg.h"
#include "support/temporary_directory.h"

namespace switchyard::test {
namespace {

using testing::HasSubstr;
using testing::Not;

// The page stands in a frame, because a window of chromium can't be as narrow as a phone; this
// script, outside of the page, says where the browser has put what.
constexpr const char* kProbe = R"(<script>
addEventListener("load", () => {
  const page = document.querySelector("iframe").contentDocument;
  const box = (element) => {
    const r = element.getBoundingClientRect();
    return [Math.round(r.x), Math.round(r.y), Math.round(r.width), Math.round(r.height)];
  };
  const texts = [...page.querySelectorAll("figure > svg text")];
  const outside = texts.filter((text) => {
    const [x, , width] = box(text), [left, , room] = box(text.closest("figure"));
    return x < left || x + width > left + room;
  });
  document.body.dataset.seen = btoa(JSON.stringify({
    scrollWidth: page.documentElement.scrollWidth,
    height: page.body.getBoundingClientRect().height,
    figures: [...page.querySelectorAll("figure > svg")].map(box),
    smallest: Math.min(...texts.map((text) => box(text)[3])),
    outside: outside.map((text) => text.textContent).join("|").replace(/[^ -~]/g, "?"),
  }));
});
</script>)";

constexpr int kFrameHeight = 8000;

struct Seen {
  nlohmann::json layout;
  Picture picture;
  std::string said;  // by the browser
};

std::string from_base64(const std::string& text) {
  static const std::string kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    const size_t digit = kDigits.find(c);
    if (digit == std::string::npos) break;
    bits = bits << 6 | static_cast<uint32_t>(digit);
    if ((count += 6) >= 8) bytes += static_cast<char>(bits >> (count -= 8) & 0xFF);
  }
  return bytes;
}

class Browser : public testing::Test {
 protected:
  void SetUp() override {
    if (std::system("command -v chromium > /dev/null") != 0) GTEST_SKIP() << "chromium is missing";
    JsonlSink sink(path("metrics.jsonl"));
    sink.start({.steps = 80, .ranks = 2, .parameters = 6'040'000});
    for (int64_t step = 1; step <= 80; ++step) {
      sink.step(made_up_step(step, 2, 8));
      if (step % 20 != 0) continue;
      sink.evaluation(made_up_evaluation(step, 2, 8, {"de", "es", "fr", "a rather long label"}));
    }
    write_text(path("config.yaml"), "name: " + std::string(400, 'x') + "\n");
    write_html_report(directory_.path());
  }

  std::filesystem::path path(const std::string& name) const { return directory_.path() / name; }
  std::string read(const std::string& name) const {
    std::ifstream file(path(name), std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  // Its output goes to the file `out`, what it says to `err`.
  void chromium(const std::string& page, const std::string& arguments) const {
    const std::string command =
        "cd '" + directory_.path().string() +
        "' && HOME=\"$PWD\" timeout 120 chromium --headless=new --no-sandbox --disable-gpu "
        "--disable-dev-shm-usage --disable-background-networking --disable-component-update "
        "--hide-scrollbars --user-data-dir=\"$PWD/profile\" --enable-logging=stderr " +
        arguments + " 'file://" + path(page).string() + "' > out 2>> err";
    ASSERT_EQ(std::system(command.c_str()), 0) << read("err");
  }

  // A page in a frame of this width.
  Seen look(const std::string& html, int width, const std::string& flags = "") const {
    std::ofstream(path("frame.html"))
        << "<!DOCTYPE html><html><head><style>body{margin:0}iframe{border:0;display:block;width:"
        << width << "px;height:" << kFrameHeight << "px}</style></head><body><iframe srcdoc=\""
        << escape(html) << "\"></iframe>" << kProbe << "</body></html>";
    const std::string window =
        "--window-size=" + std::to_string(width) + "," + std::to_string(kFrameHeight) + " " + flags;
    Seen seen;
    chromium("frame.html", "--dump-dom " + window);
    const std::string mark = "data-seen=\"", dom = read("out");
    const size_t at = dom.find(mark);
    SWITCHYARD_CHECK(at != std::string::npos, dom.substr(0, 500));
    seen.layout = nlohmann::json::parse(from_base64(dom.substr(at + mark.size())));
    chromium("frame.html", "--screenshot=shot.png " + window);
    seen.picture = read_png(path("shot.png"));
    seen.said = read("err");
    return seen;
  }

  const TemporaryDirectory directory_;
};

double brightness(const std::array<uint8_t, 3>& pixel) {
  return (0.2126 * pixel[0] + 0.7152 * pixel[1] + 0.0722 * pixel[2]) / 255;
}

// Each figure has something drawn in it: several colours, and not nearly all of it background.
void expect_figures(const Seen& seen) {
  ASSERT_GE(seen.layout["figures"].size(), 14u);
  for (const auto& box : seen.layout["figures"]) {
    const int64_t left = box[0], top = box[1], width = box[2], height = box[3];
    ASSERT_GT(width, 200);
    ASSERT_GT(height, 80);
    std::map<std::array<uint8_t, 3>, int64_t> colours;
    for (int64_t y = top; y < top + height; ++y) {
      for (int64_t x = left; x < left + width; ++x) ++colours[seen.picture.at(x, y)];
    }
    int64_t most = 0;
    for (const auto& [colour, count] : colours) most = std::max(most, count);
    EXPECT_LT(most, width * height * 985 / 1000) << box;
    EXPECT_GE(colours.size(), 8u) << box;
  }
}

void expect_fits(const Seen& seen, int width) {
  EXPECT_LE(seen.layout["scrollWidth"], width) << "the page scrolls sideways";
  EXPECT_EQ(seen.layout["outside"], "") << "texts that stick out of their figures";
  EXPECT_LT(seen.layout["height"], kFrameHeight);
  EXPECT_THAT(seen.said, Not(HasSubstr("CONSOLE")));
}

TEST_F(Browser, ShowsEveryFigureOnADesk) {
  const Seen seen = look(read("report.html"), 1200);
  expect_fits(seen, 1200);
  expect_figures(seen);
  EXPECT_GT(brightness(seen.picture.at(5, 5)), 0.9);
}

TEST_F(Browser, FitsAPhone) {
  const Seen seen = look(read("report.html"), 390);
  expect_fits(seen, 390);
  expect_figures(seen);
  EXPECT_GE(seen.layout["smallest"], 10) << "pixels high";
}

TEST_F(Browser, IsDarkWhereTheReaderLikesIt) {
  const Seen seen = look(read("report.html"), 1200, "--blink-settings=preferredColorScheme=0");
  expect_fits(seen, 1200);
  expect_figures(seen);
  EXPECT_LT(brightness(seen.picture.at(5, 5)), 0.15);
}

TEST_F(Browser, PrintsWithoutBeingAskedForAnythingElse) {
  chromium("report.html", "--no-pdf-header-footer --print-to-pdf=report.pdf");
  EXPECT_EQ(read("report.pdf").compare(0, 5, "%PDF-"), 0);
  EXPECT_GT(std::filesystem::file_size(path("report.pdf")), 20'000u);
  EXPECT_THAT(read("err"), Not(HasSubstr("CONSOLE")));
}

// The other tests see nothing forbidden: this one shows that they would.
TEST_F(Browser, WouldSayIfAnythingWereFetched) {
  std::string html = read("report.html");
  html.replace(html.find("<main>"), 6, "<main><img alt=\"\" src=\"http://localhost:9/x.png\"/>");
  write_text(path("fetching.html"), html);
  chromium("fetching.html", "--dump-dom");
  EXPECT_THAT(read("err"), HasSubstr("CONSOLE"));
  EXPECT_THAT(read("err"), HasSubstr("Content Security Policy"));
}

}  // namespace
}  // namespace switchyard::test
