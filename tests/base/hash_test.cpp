#include "base/hash.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/errors.h"

namespace switchyard {
namespace {

// XXH3-128 of the empty input, from the algorithm's published test values.
TEST(Hash, KnownAnswer) { EXPECT_EQ(digest_of("").hex(), "99aa06d3014798d86001c324468d497f"); }

TEST(Hash, PiecesAndFilesAgreeWithTheWhole) {
  std::string text(3'000'001, 'x');
  text[17] = 'y';
  Hasher hasher;
  hasher.add(text.data(), 10);
  hasher.add(text.data() + 10, text.size() - 10);
  EXPECT_EQ(hasher.digest(), digest_of(text));

  const auto path = std::filesystem::temp_directory_path() / "switchyard_hash_test";
  std::ofstream(path, std::ios::binary) << text;
  EXPECT_EQ(digest_of_file(path), digest_of(text));
  std::filesystem::remove(path);
  EXPECT_THROW(digest_of_file(path), InputError);
}

}  // namespace
}  // namespace switchyard
