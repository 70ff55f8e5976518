#include "inspect/sizes.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <map>
#include <string>
#include <vector>

#include "ipc/frame.h"
#include "ipc/property.h"
#include "ipc/sizes_abi.h"
#include "options.h"
#include "pool/pool_options.h"
#include "ring/record_producer.h"

namespace cdmf::ipc::shm {
namespace {

/// Options as the host hands them over.
struct Config {
  explicit Config(const std::map<std::string, std::string>& given, std::uint64_t max_message_size = 64 << 10) {
    cdmf_plugin plugin{};
    plugin.type = "shm";
    plugin.properties = kProperties;
    plugin.property_count = std::size(kProperties);
    settings = make_settings(plugin, given);
    EXPECT_TRUE(settings.problems.empty()) << testing::PrintToString(settings.problems);
    raw.struct_size = sizeof raw;
    raw.role = CDMF_ROLE_SERVER;
    raw.endpoint = "/sizes_test";
    raw.max_message_size = max_message_size;
    raw.frame_size_max = max_message_size + CDMF_FRAME_OVERHEAD_MAX;
    raw.settings = settings.rows.data();
    raw.setting_count = settings.rows.size();
  }
  Settings settings;
  cdmf_config raw{};
};

std::vector<cdmf_size_part> parts_of(const Config& config) {
  std::vector<cdmf_size_part> parts(16);
  std::size_t count = parts.size();
  cdmf_error error{};
  error.struct_size = sizeof error;
  EXPECT_EQ(kSizes.parts(&config.raw, parts.data(), &count, &error), CDMF_OK) << error.message;
  parts.resize(count);
  return parts;
}

std::uint64_t shared_bytes(const std::vector<cdmf_size_part>& parts) {
  std::uint64_t sum = 0;
  for (const cdmf_size_part& part : parts) {
    if (part.owner == CDMF_SIZE_SHARED) sum += part.bytes;
  }
  return sum;
}

TEST(Sizes, ThePartsAddUpToThePagesThatASegmentTakes) {
  const std::map<std::string, std::string> cases[] = {{},
                                                      {{"bidirectional", "false"}},
                                                      {{"ring_buffer_capacity", "256"}, {"slot_size", "1KiB"}},
                                                      {{"ring_buffer_capacity", "16384"}}};
  for (const auto& given : cases) {
    const Config config(given, 1000);
    const Options options{DriverConfig(config.raw)};
    Segment segment;
    UniqueFd file;
    ErrorText none(nullptr);
    ASSERT_EQ(Segment::create(options.plan, EndFacts{}, EndFacts{}, segment, file, none), CDMF_OK);
    struct stat info;
    ASSERT_EQ(fstat(file.get(), &info), 0);
    EXPECT_EQ(shared_bytes(parts_of(config)), static_cast<std::uint64_t>(info.st_blocks) * 512)
        << testing::PrintToString(given);
  }
}

TEST(Sizes, ARingSmallerThanAPageIsRoundedUp) {
  const Config config({{"ring_buffer_capacity", "4"}, {"slot_size", "512"}, {"bidirectional", "false"}}, 100);
  EXPECT_EQ(shared_bytes(parts_of(config)), 2 * 4096u);
}

TEST(Sizes, ThePartsOfAPoolAddUpToItsPagesHoweverManyClientsThereAre) {
  const Config config({{"ring_type", "mpmc"}, {"ring_buffer_capacity", "16"}}, 100);
  const PoolOptions options{DriverConfig(config.raw)};
  const std::vector<cdmf_size_part> parts = parts_of(config);
  EXPECT_EQ(shared_bytes(parts), (options.plan.total_size() + 4095) / 4096 * 4096);
  for (const cdmf_size_part& part : parts) EXPECT_EQ(part.per, CDMF_SIZE_PER_ENDPOINT) << part.name;
}

TEST(Sizes, ForSeveralProducersAndConsumersAPoolIsSuggested) {
  cdmf_size_wish wish{};
  wish.struct_size = sizeof wish;
  wish.producers = 4;
  wish.consumers = 2;
  wish.capacity = 128;
  wish.message_size = 1000;
  cdmf_size_suggestion suggestion{};
  ASSERT_EQ(kSizes.suggest(&wish, &suggestion, nullptr), CDMF_OK);
  std::map<std::string, std::string> given;
  for (std::uint32_t i = 0; i < suggestion.option_count; ++i) {
    given[suggestion.options[i].name] = suggestion.options[i].text;
  }
  EXPECT_EQ(given["ring_type"], "mpmc");
  given.erase("max_message_size");
  const Config config(given, 1000);
  EXPECT_EQ(PoolOptions{DriverConfig(config.raw)}.plan.ring_capacity, 128u);
}

TEST(Sizes, TooLittleRoomStillTellsHowManyPartsThereAre) {
  const Config config({});
  std::size_t count = 0;
  EXPECT_EQ(kSizes.parts(&config.raw, nullptr, &count, nullptr), CDMF_OK);
  EXPECT_EQ(count, parts_of(config).size());
}

TEST(Sizes, OptionsThatContradictEachOtherAreRefusedAsCreateDoes) {
  const Config config({{"ring_buffer_capacity", "4"}, {"slot_size", "64"}});
  std::size_t count = 0;
  cdmf_error error{};
  error.struct_size = sizeof error;
  EXPECT_EQ(kSizes.parts(&config.raw, nullptr, &count, &error), CDMF_INVALID_CONFIG);
  EXPECT_NE(std::string(error.message).find("ring_buffer_capacity"), std::string::npos) << error.message;
}

cdmf_size_suggestion suggest(std::uint64_t capacity, std::uint64_t message_size, cdmf_status expected = CDMF_OK,
                             std::string* text = nullptr) {
  cdmf_size_wish wish{};
  wish.struct_size = sizeof wish;
  wish.producers = wish.consumers = 1;
  wish.capacity = capacity;
  wish.message_size = message_size;
  cdmf_size_suggestion suggestion{};
  cdmf_error error{};
  error.struct_size = sizeof error;
  EXPECT_EQ(kSizes.suggest(&wish, &suggestion, &error), expected) << error.message;
  if (text != nullptr) *text = error.message;
  return suggestion;
}

TEST(Sizes, WhatIsSuggestedHoldsAsManyMessagesAsWereWished) {
  for (const std::uint64_t capacity : {1u, 4u, 128u, 256u, 4096u}) {
    for (const std::uint64_t message_size : {1u, 32u, 33u, 200u, 1024u, 4000u, 65536u}) {
      if (capacity * message_size > 64u << 20) continue;
      std::map<std::string, std::string> given;
      const cdmf_size_suggestion suggestion = suggest(capacity, message_size);
      for (std::uint32_t i = 0; i < suggestion.option_count; ++i) {
        given[suggestion.options[i].name] = suggestion.options[i].text;
      }
      EXPECT_EQ(given["max_message_size"], format_size(message_size));
      given.erase("max_message_size");
      given["bidirectional"] = "false";
      const Config config(given, message_size);
      const Options options{DriverConfig(config.raw)};
      Segment segment;
      UniqueFd file;
      ErrorText none(nullptr);
      ASSERT_EQ(Segment::create(options.plan, EndFacts{}, EndFacts{}, segment, file, none), CDMF_OK);
      RecordProducer producer(segment.tx());
      std::uint64_t held = 0;
      while (held < capacity && producer.claim(kFrameHeaderBytes + message_size) == ClaimOutcome::claimed) {
        producer.commit(kFrameHeaderBytes + message_size, 0, 0);
        ++held;
      }
      EXPECT_EQ(held, capacity) << message_size;
    }
  }
}

TEST(Sizes, WishesThatNoRingGrantsAreRefusedWithWhatWouldDo) {
  std::string text;
  (void)suggest(1000, 64, CDMF_INVALID_ARGUMENT, &text);
  EXPECT_NE(text.find("1024"), std::string::npos) << text;
  (void)suggest(0, 64, CDMF_INVALID_ARGUMENT, &text);
  (void)suggest(4, 0, CDMF_INVALID_ARGUMENT, &text);
  (void)suggest(4, std::uint64_t{1} << 40, CDMF_INVALID_ARGUMENT, &text);
  EXPECT_NE(text.find("255MiB"), std::string::npos) << text;
  (void)suggest(std::uint64_t{1} << 63, 64, CDMF_INVALID_ARGUMENT, &text);
  (void)suggest(1 << 24, 1 << 20, CDMF_INVALID_ARGUMENT, &text);
  EXPECT_NE(text.find("16777216"), std::string::npos) << text;
}

}  // namespace
}  // namespace cdmf::ipc::shm
