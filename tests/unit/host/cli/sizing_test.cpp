#include "cli/sizing.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <limits>

namespace cdmf::ipc::cli {
namespace {

constexpr std::uint64_t kMicrosecond = 1000;

TEST(Sizing, TheFlowchartOfTheSpecificationIsFollowedAtEveryBranch) {
  struct Case {
    double rate;
    std::uint64_t latency_ns;
    std::uint64_t capacity;
  };
  const Case cases[] = {{1, 5 * kMicrosecond, 128},       {9'999, 5 * kMicrosecond, 128},
                        {10'000, 5 * kMicrosecond, 4096}, {100'000, 5 * kMicrosecond, 4096},
                        {100'001, 19'999, 256},           {100'001, 20 * kMicrosecond, 1024},
                        {5'000'000, 99'999, 1024},        {5'000'000, 100 * kMicrosecond, 4096}};
  for (const Case& it : cases) {
    EXPECT_EQ(advise({it.rate, it.latency_ns, 1, 1}).capacity, it.capacity) << it.rate << " " << it.latency_ns;
  }
}

TEST(Sizing, OneToOneIsSpscAndAnythingElseMpmc) {
  EXPECT_FALSE(advise({1000, 1000, 1, 1}).many);
  EXPECT_TRUE(advise({1000, 1000, 2, 1}).many);
  EXPECT_TRUE(advise({1000, 1000, 1, 2}).many);
  EXPECT_NE(advise({1000, 1000, 1, 1}).reason.find("SPSC"), std::string::npos);
  EXPECT_NE(advise({1000, 1000, 4, 4}).reason.find("MPMC"), std::string::npos);
}

TEST(Sizing, TheFormulaIsTheSpecifications) {
  // Its example: 64 + 2 x 4 MiB + 192, and a fifth more.
  EXPECT_EQ(specified_size(4096, 1024), 10'066'637u);
  EXPECT_EQ(specified_size(1, 1), 310u);  // 258 x 1.2 = 309.6
  EXPECT_EQ(specified_size(UINT64_MAX, UINT64_MAX), UINT64_MAX);
}

TEST(Sizing, RatesAreNumbersWithOrWithoutThousands) {
  EXPECT_EQ(parse_rate("50000"), 50'000);
  EXPECT_EQ(parse_rate("50K"), 50'000);
  EXPECT_EQ(parse_rate("50k"), 50'000);
  EXPECT_EQ(parse_rate("2.5M"), 2'500'000);
  EXPECT_EQ(parse_rate("1G"), 1e9);
  for (const char* wrong :
       {"", "0", "-4", "K", "5 K", "5KK", "inf", "nan", "0x10", "1e5", ".", "1.2.3", "2000000G", "5m"}) {
    EXPECT_EQ(parse_rate(wrong), std::nullopt) << wrong;
  }
}

cdmf_size_part part(std::uint16_t per, std::uint16_t owner, std::uint64_t bytes, const char* name) {
  cdmf_size_part made{};
  made.struct_size = sizeof made;
  made.per = per;
  made.owner = owner;
  made.bytes = bytes;
  std::snprintf(made.name, sizeof made.name, "%s", name);
  return made;
}

TEST(Sizing, SumsAreKeptApartByOwnerAndMultipliedByClients) {
  const std::vector<cdmf_size_part> parts{part(CDMF_SIZE_PER_ENDPOINT, CDMF_SIZE_SHARED, 1000, "book"),
                                          part(CDMF_SIZE_PER_CLIENT, CDMF_SIZE_SHARED, 64, "ring"),
                                          part(CDMF_SIZE_PER_CLIENT, CDMF_SIZE_SERVER, 7, "server's"),
                                          part(CDMF_SIZE_PER_CLIENT, CDMF_SIZE_CLIENT, 9, "client's")};
  const std::string text = parts_text(parts, 10);
  EXPECT_NE(text.find("one client:     1064 bytes (1.0 KiB) shared, 7 bytes in the server, 9 bytes in each client\n"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("10 clients:     1640 bytes (1.6 KiB) shared, 70 bytes in the server, 9 bytes in each client\n"),
            std::string::npos)
      << text;
}

TEST(Sizing, TextsOfAPluginCannotControlTheTerminalNorRunOn) {
  cdmf_size_part odd = part(CDMF_SIZE_PER_CLIENT, 99, 1, "a\x1b[2Jb");
  for (char& c : odd.detail) c = 'x';  // No NUL.
  const std::string text = parts_text({odd}, 1);
  EXPECT_NE(text.find("a?[2Jb"), std::string::npos) << text;
  EXPECT_NE(text.find(std::string(sizeof odd.detail, 'x') + "\n"), std::string::npos) << text;
}

TEST(Sizing, ASuggestionBecomesAConfigurationToPaste) {
  cdmf_size_suggestion suggestion{};
  suggestion.option_count = 2;
  std::snprintf(suggestion.options[0].name, sizeof suggestion.options[0].name, "max_message_size");
  std::snprintf(suggestion.options[0].text, sizeof suggestion.options[0].text, "4KiB");
  std::snprintf(suggestion.options[1].name, sizeof suggestion.options[1].name, "ring_buffer_capacity");
  std::snprintf(suggestion.options[1].text, sizeof suggestion.options[1].text, "256");
  EXPECT_EQ(suggestion_yaml("acme", suggestion),
            "version: 1\n\ntransports:\n  main:\n    type: acme\n    endpoint: /my_endpoint\n"
            "    max_message_size: 4KiB\n    acme:\n      ring_buffer_capacity: 256\n");
  suggestion.option_count = std::numeric_limits<std::uint32_t>::max();  // Of a plugin that is wrong.
  EXPECT_FALSE(suggestion_yaml("acme", suggestion).empty());
}

TEST(Sizing, BytesAndDurationsAreReadable) {
  EXPECT_EQ(bytes_text(1023), "1023 bytes");
  EXPECT_EQ(bytes_text(4'198'400), "4198400 bytes (4.0 MiB)");
  EXPECT_EQ(duration_text(0), "0ns");
  EXPECT_EQ(duration_text(1'280'000), "1.28ms");
  EXPECT_EQ(duration_text(5'000'000'000'000), "5000s");
}

}  // namespace
}  // namespace cdmf::ipc::cli
