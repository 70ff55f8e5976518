#include "config/yaml_document.h"

#include <gtest/gtest.h>
#include <pthread.h>

#include <ctime>
#include <functional>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

namespace cdmf::ipc::config {
namespace {

using Lines = std::vector<std::string>;
using Kind = YamlNode::Kind;

Lines problems_of(std::string_view text) { return read_yaml_text("c.yaml", text).problems.lines(); }

std::string repeated(std::string_view piece, std::size_t count) {
  std::string text;
  for (std::size_t i = 0; i < count; ++i) text += piece;
  return text;
}

const YamlNode& value(const YamlNode& map, std::string_view key) {
  static const YamlNode missing;
  const YamlEntry* entry = map.find(key);
  EXPECT_NE(entry, nullptr) << key;
  return entry == nullptr ? missing : entry->value;
}

TEST(YamlDocument, KeepsTheTreeInTheOrderOfTheFile) {
  const YamlDocument document = read_yaml_text("c.yaml",
                                               "version: 1\n"
                                               "transports:\n"
                                               "  main: { type: shm, endpoint: /demo }\n"
                                               "  aux:\n"
                                               "    list:\n"
                                               "      - x\n"
                                               "      - [y, z]\n"
                                               "  empty: {}\n");
  ASSERT_TRUE(document.problems.empty()) << document.problems.text();
  const YamlNode& root = *document.root;
  ASSERT_EQ(root.entries.size(), 2U);
  EXPECT_EQ(root.entries[0].key, "version");
  EXPECT_EQ(root.entries[1].key, "transports");
  const YamlNode& transports = value(root, "transports");
  EXPECT_EQ(value(value(transports, "main"), "type").text, "shm");
  EXPECT_EQ(value(value(transports, "main"), "endpoint").text, "/demo");
  const YamlNode& list = value(value(transports, "aux"), "list");
  ASSERT_EQ(list.kind, Kind::sequence);
  ASSERT_EQ(list.items.size(), 2U);
  EXPECT_EQ(list.items[0].text, "x");
  EXPECT_EQ(list.items[1].items[1].text, "z");
  EXPECT_EQ(value(transports, "empty").kind, Kind::map);
  EXPECT_EQ(root.find("nothing"), nullptr);
}

TEST(YamlDocument, KnowsWhereEachKeyAndValueStarts) {
  const YamlDocument document = read_yaml_text("c.yaml", "a: 1\r\nb:\r\n  c: 'x'   \r\n  d: {e: [f, gg]}\r\n");
  ASSERT_TRUE(document.problems.empty()) << document.problems.text();
  const YamlNode& root = *document.root;
  EXPECT_EQ(root.position, (Position{1, 1}));
  EXPECT_EQ(root.find("a")->key_position, (Position{1, 1}));
  EXPECT_EQ(value(root, "a").position, (Position{1, 4}));
  const YamlNode& b = value(root, "b");
  EXPECT_EQ(root.find("b")->key_position, (Position{2, 1}));
  EXPECT_EQ(b.position, (Position{3, 3}));
  EXPECT_EQ(b.find("c")->key_position, (Position{3, 3}));
  EXPECT_EQ(value(b, "c").position, (Position{3, 6}));
  const YamlNode& e = value(value(b, "d"), "e");
  EXPECT_EQ(e.position, (Position{4, 10}));
  EXPECT_EQ(e.items[1].position, (Position{4, 14}));
}

TEST(YamlDocument, CountsColumnsInCharactersAndSkipsAByteOrderMark) {
  const YamlDocument document = read_yaml_text("c.yaml",
                                               "\xEF\xBB\xBF"
                                               "ä: {öü: x}\n");
  ASSERT_TRUE(document.problems.empty()) << document.problems.text();
  EXPECT_EQ(document.root->entries[0].key, "ä");
  EXPECT_EQ(document.root->entries[0].key_position, (Position{1, 1}));
  EXPECT_EQ(document.root->entries[0].value.position, (Position{1, 4}));
  EXPECT_EQ(document.root->entries[0].value.entries[0].value.position, (Position{1, 9}));
}

TEST(YamlDocument, TellsQuotedFromPlain) {
  const YamlDocument document = read_yaml_text("c.yaml",
                                               "plain: 8080\n"
                                               "double: \"80\\\"80\"\n"
                                               "single: 'it''s'\n"
                                               "empty: ''\n"
                                               "block: |\n"
                                               "  line\n"
                                               "'key': x\n"
                                               "nothing: 'null'\n");
  ASSERT_TRUE(document.problems.empty()) << document.problems.text();
  const YamlNode& root = *document.root;
  EXPECT_FALSE(value(root, "plain").quoted);
  EXPECT_TRUE(value(root, "double").quoted);
  EXPECT_EQ(value(root, "double").text, "80\"80");
  EXPECT_EQ(value(root, "single").text, "it's");
  EXPECT_EQ(value(root, "empty").text, "");
  EXPECT_TRUE(value(root, "empty").quoted);
  EXPECT_TRUE(value(root, "block").quoted);
  EXPECT_EQ(value(root, "block").text, "line\n");
  EXPECT_EQ(value(root, "key").text, "x");
  EXPECT_EQ(value(root, "nothing").text, "null");
}

TEST(YamlDocument, AcceptsOneMarkedDocumentAndItsEnd) {
  EXPECT_EQ(problems_of("%YAML 1.2\n---\na: 1\n...\n# the end\n"), Lines{});
}

TEST(YamlDocument, ReportsEveryProblemAtOnceAndKeepsTheRestOfTheTree) {
  const YamlDocument document = read_yaml_text("c.yaml",
                                               "a: &x 1\n"
                                               "b: *x\n"
                                               "c: !secret y\n"
                                               "a: 2\n"
                                               "d:\n"
                                               "e: ok\n");
  EXPECT_EQ(document.problems.lines(),
            (Lines{"c.yaml:1:4: a: anchors ('&') are not supported: 'x'; write the value out wherever it is needed",
                   "c.yaml:2:4: b: aliases ('*') are not supported; write the value out",
                   "c.yaml:3:4: c: tags ('!') are not supported: '!secret'; delete the tag; quotes make a value text",
                   "c.yaml:4:1: a: is given twice, first at 1:1; keep one of the two",
                   "c.yaml:5:1: d: has no value; write 'key: value', or delete the key"}));
  ASSERT_TRUE(document.root);
  const YamlNode& root = *document.root;
  EXPECT_EQ(value(root, "a").text, "1");
  EXPECT_EQ(value(root, "b").kind, Kind::refused);
  EXPECT_EQ(value(root, "c").kind, Kind::refused);
  EXPECT_EQ(value(root, "d").kind, Kind::refused);
  EXPECT_EQ(value(root, "e").text, "ok");
}

struct Refusal {
  const char* name;
  std::string text;
  Lines lines;
};

void PrintTo(const Refusal& refusal, std::ostream* stream) { *stream << refusal.text; }

class YamlRefusal : public testing::TestWithParam<Refusal> {};

TEST_P(YamlRefusal, SaysWhereAndWhy) { EXPECT_EQ(problems_of(GetParam().text), GetParam().lines); }

constexpr char kDelete[] = "; write a value, or delete the key";
constexpr char kNoValue[] = "has no value; write 'key: value', or delete the key";
constexpr char kTag[] = "; delete the tag; quotes make a value text";
constexpr char kMap[] = "the document is not a map; write lines of 'key: value', with a space after ':'";
constexpr char kEmpty[] = "c.yaml: the file is empty; a configuration starts with 'version: 1'";
constexpr char kValueHint[] = "; check the indentation; a value that holds ': ' needs quotes";
constexpr char kNullChar[] = "holds a zero character";

INSTANTIATE_TEST_SUITE_P(
    YamlDocument, YamlRefusal,
    testing::Values(
        Refusal{"DuplicateInAFlowMap",
                "m: {b: 1, b: 2}\n",
                {"c.yaml:1:11: m.b: is given twice, first at 1:5; keep one of the two"}},
        Refusal{"DuplicateInQuotes",
                "b: 1\n\"b\": 2\n",
                {"c.yaml:2:1: b: is given twice, first at 1:1; keep one of the two"}},
        Refusal{"DuplicateInAList",
                "l:\n- x: 1\n- x: 1\n  x: 2\n",
                {"c.yaml:4:3: l[1].x: is given twice, first at 3:3; keep one of the two"}},
        Refusal{"Null", "a: null\n", {"c.yaml:1:4: a: null is not a value" + std::string(kDelete)}},
        Refusal{"Tilde", "a: [1, ~]\n", {"c.yaml:1:8: a[1]: null is not a value" + std::string(kDelete)}},
        Refusal{"ValueMissingBeforeAKeyNamedNull", "a:\nnull_: 1\n", {"c.yaml:1:1: a: " + std::string(kNoValue)}},
        Refusal{"WordWithoutColon", "a: 1\nb\n", {"c.yaml:2:1: b: " + std::string(kNoValue)}},
        Refusal{"WordInAFlowMap", "a: {b: 1, c}\n", {"c.yaml:1:11: a.c: " + std::string(kNoValue)}},
        Refusal{"EmptyItem", "a:\n- x\n-\n", {"c.yaml:4:1: a[1]: " + std::string(kNoValue)}},
        Refusal{"KeyMissing", "a: 1\n: x\n", {"c.yaml:2:1: a key is missing before ':'"}},
        Refusal{"KeyEmpty", "\"\": x\n", {"c.yaml:1:1: a key may not be empty"}},
        Refusal{"KeyNull", "~: x\n", {"c.yaml:1:1: a key is missing before ':'"}},
        Refusal{"KeyIsAList", "? [a]\n: b\n", {"c.yaml:1:3: a key must be one word, not a list or a map"}},
        Refusal{"KeyIsAMap", "a: {{b: 1}: c}\n", {"c.yaml:1:5: a: a key must be one word, not a list or a map"}},
        Refusal{"MergeKey",
                "a:\n  <<: {b: 1}\n",
                {"c.yaml:2:3: a: merge keys ('<<') are not supported; write the keys out"}},
        Refusal{"AnchorOnAMap",
                "&r {a: 1}\n",
                {"c.yaml:1:1: anchors ('&') are not supported: 'r'; write the value out wherever it is needed"}},
        Refusal{"AliasOfNothing",
                "a: *nobody\n",
                {"c.yaml:1:4: syntax error: aliases ('*') are not supported; write the value out, or put it in "
                 "quotes"}},
        Refusal{"AliasOfItself",
                "a: &x [*x]\n",
                {"c.yaml:1:4: a: anchors ('&') are not supported: 'x'; write the value out wherever it is needed",
                 "c.yaml:1:8: a[0]: aliases ('*') are not supported; write the value out"}},
        Refusal{
            "TagOnAMap", "a: !m {b: 1}\n", {"c.yaml:1:4: a: tags ('!') are not supported: '!m'" + std::string(kTag)}},
        Refusal{"TagOnAList",
                "a: !!seq [b]\n",
                {"c.yaml:1:4: a: tags ('!') are not supported: '!!seq'" + std::string(kTag)}},
        Refusal{"TagOfTheStandard",
                "a: !!str 2\n",
                {"c.yaml:1:4: a: tags ('!') are not supported: '!!str'" + std::string(kTag)}},
        Refusal{"TagInWords",
                "a: !<x:y> 2\n",
                {"c.yaml:1:4: a: tags ('!') are not supported: '!<x:y>'" + std::string(kTag)}},
        Refusal{"TagAlone", "a: ! 3\n", {"c.yaml:1:4: a: tags ('!') are not supported: '!'" + std::string(kTag)}},
        Refusal{"TagOnAKey", "!k a: 1\n", {"c.yaml:1:1: tags ('!') are not supported: '!k'" + std::string(kTag)}},
        Refusal{"ZeroCharacterByEscape", "a: \"x\\0y\"\n", {"c.yaml:1:4: a: " + std::string(kNullChar)}},
        Refusal{"SingleQuoteLeftOpen", "b: 1\na: 'x\n", {"c.yaml:2:4: a: the quote is never closed"}},
        Refusal{"SingleQuoteLeftOpenAfterAPair", "a: 'x''\n", {"c.yaml:1:4: a: the quote is never closed"}},
        Refusal{"Nothing", "", {kEmpty}}, Refusal{"OnlyAComment", "# nothing\n\n", {kEmpty}},
        Refusal{"OnlyAMarker", "---\n", {kEmpty}}, Refusal{"OnlyNull", "~\n", {kEmpty}},
        Refusal{"AScalar", "key:value\n", {"c.yaml:1:1: " + std::string(kMap)}},
        Refusal{"AList", "- a\n", {"c.yaml:1:1: " + std::string(kMap)}},
        Refusal{"SecondDocument",
                "a: 1\n---\na: 2\n",
                {"c.yaml:2:1: a second document starts here; keep one document in a file"}},
        Refusal{"SecondDocumentThatIsEmpty",
                "a: 1\n---\n",
                {"c.yaml:2:1: a second document starts here; keep one document in a file"}},
        Refusal{"TextAfterTheDocument",
                "{a: 1}\nb: 2\n",
                {"c.yaml:2:1: text after the end of the document; check the indentation and the brackets above it"}},
        Refusal{"NotUtf8", "a: 1\nb: x\xFFy\n", {"c.yaml:2:5: byte 0xFF is not UTF-8; save the file as UTF-8"}},
        Refusal{"EndOfTransmission",
                "a: 1\x04\nb: 2\n",
                {"c.yaml:1:5: control character 0x04; delete it, or write it as an escape in double quotes"}}),
    [](const auto& test) { return std::string(test.param.name); });

INSTANTIATE_TEST_SUITE_P(
    YamlSyntax, YamlRefusal,
    testing::Values(
        Refusal{"KeyIndentedBelowAValue",
                "a: 1\n b: 2\n",
                {"c.yaml:2:3: syntax error: a ':' is not expected here" + std::string(kValueHint)}},
        Refusal{"ColonInAValue",
                "a: b: c\n",
                {"c.yaml:1:5: syntax error: a ':' is not expected here" + std::string(kValueHint)}},
        Refusal{"TabAsIndentation",
                "a:\n\tb: 1\n",
                {"c.yaml:2:3: syntax error: a ':' is not expected here; indent with spaces, not with tabs"}},
        Refusal{"BracketLeftOpen",
                "a:\n  b: [1,\nc: 2\n",
                {"c.yaml:2:6: syntax error: this '[' is not closed; add the closing bracket, or the missing ','"}},
        Refusal{"BraceLeftOpen",
                "a: {b: 1\n",
                {"c.yaml:1:4: syntax error: this '{' is not closed; add the closing bracket, or the missing ','"}},
        Refusal{"BraceTooMany", "a: }\n", {"c.yaml:1:4: syntax error: illegal flow end"}},
        Refusal{"ReservedCharacter",
                "a: @x\n",
                {"c.yaml:1:4: syntax error: a value cannot start like this; put it in quotes"}},
        Refusal{"UnknownEscape",
                "a: \"\\q\"\n",
                {"c.yaml:1:5: syntax error: unknown escape '\\q'; a backslash in double quotes starts an escape: write "
                 "'\\\\', or use single quotes"}},
        Refusal{"UnknownEscapeOfMoreThanOneByte",
                "ä: \"ä\\€\"\n",
                {"c.yaml:1:6: syntax error: unknown escape '\\€'; a backslash in double quotes starts an escape: write "
                 "'\\\\', or use single quotes"}},
        Refusal{"EscapeThatTheFileEndsIn",
                "a: \"x\\",
                {"c.yaml:1:6: syntax error: unknown escape '\\'; a backslash in double quotes starts an escape: write "
                 "'\\\\', or use single quotes"}},
        Refusal{"EscapesThatTheParserMakesOneByteOf",
                "a: \"\\N\"\nb: \"\\_\"\n",
                {"c.yaml:1:4: a: the escapes '\\N' and '\\_' are not supported; write '\\u0085' and '\\u00a0'",
                 "c.yaml:2:4: b: the escapes '\\N' and '\\_' are not supported; write '\\u0085' and '\\u00a0'"}},
        Refusal{"HalfACharacterByEscape", "a: \"\\ud800\"\n", {"c.yaml:1:11: syntax error: invalid unicode: 55296"}},
        Refusal{"BadDirective", "%YAML 7\n---\na: 1\n", {"c.yaml:1:1: syntax error: bad YAML version: 7"}}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(YamlDocument, KeepsProblemsFoundBeforeASyntaxError) {
  const YamlDocument document = read_yaml_text("c.yaml", "a: 1\na: 2\nb: }\n");
  EXPECT_EQ(document.problems.size(), 2U) << document.problems.text();
  EXPECT_FALSE(document.root);
}

TEST(YamlDocument, ShowsControlCharactersOfAKeyInsteadOfSendingThem) {
  EXPECT_EQ(problems_of("\"\\e[31m\": ~\n"),
            Lines{"c.yaml:1:11: \\x1b[31m: null is not a value; write a value, or delete the key"});
}

TEST(YamlDocument, AllowsTheDeepestNestingAndNoDeeper) {
  const auto nested = [](std::size_t depth) {
    return "a: " + repeated("[", depth - 1) + "x" + repeated("]", depth - 1) + "\n";
  };
  EXPECT_EQ(problems_of(nested(kYamlDepthMax)), Lines{});
  const Lines lines = problems_of(nested(kYamlDepthMax + 1));
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_EQ(lines[0].substr(0, 11), "c.yaml:1:35");
  EXPECT_NE(lines[0].find("nested deeper than 32 levels"), std::string::npos);
}

TEST(YamlDocument, AllowsTheLargestTextAndNoLarger) {
  std::string text = "a: ";
  text += repeated("x", kYamlBytesMax - text.size());
  EXPECT_EQ(problems_of(text), Lines{});
  text += "x";
  EXPECT_EQ(problems_of(text), Lines{"c.yaml: is larger than 256 KiB"});
}

TEST(YamlDocument, NamesAtMostSomeProblems) {
  const Lines lines = problems_of("a: &x 1\nb: [" + repeated("*x, ", 5000) + "1]\n");
  EXPECT_EQ(lines.size(), Problems::kProblemCountMax + 1);
  EXPECT_EQ(lines.back(),
            "c.yaml: " + std::to_string(5001 - Problems::kProblemCountMax) + " more problems are not shown");
}

/// Runs `work` on a thread with little stack, where a recursion without bound ends the program.
void run_with_small_stack(std::function<void()> work) {
  pthread_attr_t attributes;
  ASSERT_EQ(pthread_attr_init(&attributes), 0);
  ASSERT_EQ(pthread_attr_setstacksize(&attributes, std::size_t{256} * 1024), 0);
  pthread_t thread{};
  const auto call = [](void* argument) -> void* {
    (*static_cast<std::function<void()>*>(argument))();
    return nullptr;
  };
  ASSERT_EQ(pthread_create(&thread, &attributes, call, &work), 0);
  EXPECT_EQ(pthread_join(thread, nullptr), 0);
  pthread_attr_destroy(&attributes);
}

// Would catch: a parser that never ends, recurses without bound, or needs time or memory that grows faster than the
// text. The test's own time limit is the watchdog.
TEST(YamlDocument, RefusesHostileTextsOnASmallStack) {
  std::string many_keys;
  for (int i = 0; i < 20000; ++i) many_keys += "k" + std::to_string(i) + ":\n";
  std::string bomb = "a0: &a0 [x]\n";
  for (int i = 1; i < 30; ++i) {
    const std::string last = "*a" + std::to_string(i - 1);
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + last + ", " + last + "]\n";
  }
  const std::vector<std::string> texts = {repeated("[", 100000),
                                          repeated("{", 100000),
                                          repeated("{a: ", 60000),
                                          repeated("[a, ", 60000),
                                          repeated("- ", 100000),
                                          repeated("? ", 100000),
                                          repeated("[:", 100000),
                                          repeated("[{:", 60000),
                                          "[:",
                                          repeated("a: ", 80000),
                                          repeated("---\n", 60000),
                                          repeated("!", 200000),
                                          repeated("&", 200000),
                                          repeated("*", 200000),
                                          repeated("|", 200000),
                                          "a: \"" + repeated("x", 200000),
                                          repeated("\n", 250000),
                                          repeated("%\n", 100000),
                                          many_keys,
                                          bomb,
                                          "&x\n- *x"};
  run_with_small_stack([&texts] {
    for (const std::string& text : texts) {
      EXPECT_FALSE(read_yaml_text("c.yaml", text).problems.empty()) << text.substr(0, 20);
    }
  });
}

/// Seconds of this thread's own work: what others do on the machine does not count.
double work_seconds(const std::function<void()>& work) {
  const auto now = [] {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
  };
  const double before = now();
  work();
  return now() - before;
}

// Would catch: time that grows with the square of the text. A text 16 times as long then takes 256 times as long.
TEST(YamlDocument, TakesTimeInProportionToTheText) {
  for (const char* piece : {"a,", ",", "{a: 1}, ", "\xC3\xA4,", "'b',", "[c], "}) {
    const auto seconds = [piece](std::size_t bytes) {
      const std::string text = "x: [" + repeated(piece, bytes / std::string_view(piece).size()) + "d]\n";
      return work_seconds([&text] { (void)read_yaml_text("c.yaml", text); });
    };
    (void)seconds(1000);  // What is done once.
    EXPECT_LT(seconds(160000), 0.05 + 80 * seconds(10000)) << piece;
  }
}

TEST(YamlDocument, CountsColumnsOfALongRowInAnyOrder) {
  // The key's place is asked for again when the value turns out to be missing: counting has to start over.
  EXPECT_EQ(problems_of("a: {\xC3\xA4: 1, b: , \xC3\xA4: 2, c: !t 3}\nd: 1\nd: 2\n"),
            (Lines{"c.yaml:1:11: a.b: has no value; write 'key: value', or delete the key",
                   "c.yaml:1:16: a.\xC3\xA4: is given twice, first at 1:5; keep one of the two",
                   "c.yaml:1:25: a.c: tags ('!') are not supported: '!t'; delete the tag; quotes make a value text",
                   "c.yaml:3:1: d: is given twice, first at 2:1; keep one of the two"}));
}

TEST(YamlDocument, HasSomethingToSayOfEveryHalfOfADocument) {
  const std::string text = "version: 1\nt:\n  m: {a: 'b', c: [\"d\", e]}\n  q: \"x\\\"y\"\n";
  ASSERT_EQ(problems_of(text), Lines{});
  // Any cut is either still a document or refused, and never anything else (sanitizers watch).
  for (std::size_t length = 0; length < text.size(); ++length) {
    const YamlDocument document = read_yaml_text("c.yaml", text.substr(0, length));
    EXPECT_TRUE(document.root.has_value() || !document.problems.empty()) << length;
  }
  // Inside brackets or quotes it is always refused.
  for (std::size_t length = text.find('{') + 1; length <= text.find('}'); ++length) {
    EXPECT_FALSE(problems_of(text.substr(0, length)).empty()) << text.substr(0, length);
  }
}

}  // namespace
}  // namespace cdmf::ipc::config
