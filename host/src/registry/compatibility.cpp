#include "registry/compatibility.h"

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <set>
#include <utility>

#include "config/text_check.h"
#include "ipc/property.h"
#include "registry/sanitizer.h"
#include "registry/search_path.h"

namespace cdmf::ipc::registry {
namespace {

std::string in_hex(std::uint32_t number) {
  char text[16];
  std::snprintf(text, sizeof text, "0x%08x", number);
  return text;
}

// A count past these is damage, and reading on would leave the plugin's memory.
constexpr std::size_t kPropertyCountMax = 1024;
constexpr std::size_t kChoiceCountMax = 256;

/// A key that every transport has: neither a type nor an option may be called so.
bool is_common_key(std::string_view name) {
  const auto rows = common_properties();
  return name == "type" || name == "endpoint" ||
         std::any_of(rows.begin(), rows.end(), [name](const cdmf_property& row) { return name == row.name; });
}

/// It is printed on terminals and into YAML: UTF-8 in one line.
bool is_printable(std::string_view text) {
  return text.find_first_of("\t\r\n") == std::string_view::npos && !config::find_text_fault(text);
}

std::string version(unsigned major, unsigned minor) { return std::to_string(major) + "." + std::to_string(minor); }

class Checker {
 public:
  Checker(const cdmf_plugin& plugin, std::string_view expected_type, std::uint32_t host_sanitizers)
      : plugin_(plugin), expected_type_(expected_type), host_sanitizers_(host_sanitizers) {}

  Mismatches run(std::size_t readable_bytes) {
    if (readable_bytes != 0 && readable_bytes < sizeof(cdmf_plugin)) {
      differ("size of the symbol " CDMF_PLUGIN_SYMBOL, std::to_string(readable_bytes),
             "at least " + std::to_string(sizeof(cdmf_plugin)));
      result_.hint = "its author exports a whole descriptor";
      return std::move(result_);
    }
    if (check_identity()) {
      check_texts();
      check_build();
      check_functions();
      check_properties();
    }
    if (!result_.fields.empty() && result_.hint.empty()) {
      result_.hint = "its author corrects the descriptor by what ipc/plugin_abi.h says";
    }
    return std::move(result_);
  }

 private:
  void add(std::string text) { result_.fields.push_back(std::move(text)); }
  void differ(const std::string& field, const std::string& theirs, const std::string& ours) {
    add(field + ": plugin " + theirs + ", host " + ours);
  }

  /// Whether the rest of the descriptor has the layout that this host knows.
  bool check_identity() {
    if (plugin_.magic != CDMF_PLUGIN_MAGIC) {
      differ("magic", in_hex(plugin_.magic), in_hex(CDMF_PLUGIN_MAGIC));
      result_.hint = "it is no cdmf plugin, or is damaged";
      return false;
    }
    if (plugin_.abi_major != CDMF_ABI_MAJOR) {
      differ("abi_major", std::to_string(plugin_.abi_major), std::to_string(CDMF_ABI_MAJOR));
      differ("ABI version", version(plugin_.abi_major, plugin_.abi_minor), version(CDMF_ABI_MAJOR, CDMF_ABI_MINOR));
      result_.hint = "rebuild it with the headers of cdmf " + std::to_string(CDMF_ABI_MAJOR) + ".x";
      return false;
    }
    if (plugin_.min_host_minor > CDMF_ABI_MINOR) {
      differ("min_host_minor", std::to_string(plugin_.min_host_minor), std::to_string(CDMF_ABI_MINOR));
      result_.hint = "use a host of ABI " + version(CDMF_ABI_MAJOR, plugin_.min_host_minor) + " or newer";
    }
    if (plugin_.struct_size < sizeof(cdmf_plugin)) {
      differ("struct_size", std::to_string(plugin_.struct_size), "at least " + std::to_string(sizeof(cdmf_plugin)));
      return false;
    }
    return true;
  }

  void check_texts() {
    const std::pair<const char*, const char*> texts[] = {{"type", plugin_.type},
                                                         {"version", plugin_.version},
                                                         {"vendor", plugin_.vendor},
                                                         {"license", plugin_.license},
                                                         {"summary", plugin_.summary}};
    for (const auto& [field, text] : texts) {
      if (text == nullptr) {
        add(std::string(field) + " is NULL");
      } else if (!is_printable(text)) {
        add(std::string(field) + " is not one line of UTF-8");
      }
    }
    if (plugin_.type != nullptr && is_common_key(plugin_.type)) {
      add("type: \"" + std::string(plugin_.type) + "\" is the name of a key that every transport has");
    }
    if (plugin_.type != nullptr && plugin_.type != expected_type_) {
      add("type: plugin \"" + std::string(plugin_.type) + "\", file name \"" + std::string(expected_type_) + '"');
      if (is_type_name(plugin_.type)) result_.hint = "name the file " + file_of_type(plugin_.type);
    }
    if (plugin_.max_message_size_limit == 0) add("max_message_size_limit is 0");
  }

  void check_build() {
    if (plugin_.build == nullptr) return add("build is NULL");
    if (plugin_.build->struct_size < sizeof(cdmf_build_info)) {
      return differ("build.struct_size", std::to_string(plugin_.build->struct_size),
                    "at least " + std::to_string(sizeof(cdmf_build_info)));
    }
    if (plugin_.build->compiler == nullptr) add("build.compiler is NULL");
    if (plugin_.build->language == nullptr) add("build.language is NULL");
    if (plugin_.build->standard_library == nullptr) add("build.standard_library is NULL");
    // A plugin without the host's sanitizer works, if blindly; one with a sanitizer that the host lacks does not.
    if ((plugin_.build->flags & ~host_sanitizers_) != 0) {
      differ("sanitizers", sanitizer_names(plugin_.build->flags), sanitizer_names(host_sanitizers_));
      result_.hint = "build both with the same sanitizer, or neither";
    }
  }

  void check_functions() {
    if (plugin_.create == nullptr) add("create is NULL");
    if (plugin_.get_extension == nullptr) add("get_extension is NULL");
  }

  void check_properties() {
    if (plugin_.property_count != 0 && plugin_.properties == nullptr) return add("properties is NULL");
    if (plugin_.property_count > kPropertyCountMax) {
      return differ("property_count", std::to_string(plugin_.property_count),
                    "at most " + std::to_string(kPropertyCountMax));
    }
    std::set<std::string_view> names;
    for (std::size_t i = 0; i < plugin_.property_count; ++i) {
      const cdmf_property& row = plugin_.properties[i];
      const std::string at = "properties[" + std::to_string(i) + "]";
      if (row.struct_size != sizeof(cdmf_property)) {
        // Later rows cannot be found.
        return differ(at + ".struct_size", std::to_string(row.struct_size), std::to_string(sizeof(cdmf_property)));
      }
      if (row.name == nullptr || !is_type_name(row.name)) {
        add(at + ".name is not snake_case");
        continue;
      }
      check_property(row, at + " \"" + row.name + '"');
      if (!names.insert(row.name).second) add(at + " \"" + row.name + "\" is there twice");
    }
  }

  void check_property(const cdmf_property& row, const std::string& at) {
    if (row.type > CDMF_PROPERTY_TEXT) return add(at + ": type " + std::to_string(row.type) + " is unknown");
    if (row.summary == nullptr || *row.summary == '\0') {
      add(at + ": summary is empty");
    } else if (!is_printable(row.summary)) {
      add(at + ": summary is not one line of UTF-8");
    }
    if (is_common_key(row.name)) add(at + ": the name is taken by a key that every transport has");
    if (row.type == CDMF_PROPERTY_CHOICE && !check_choices(row, at)) return;
    const bool has_limits = row.minimum != nullptr || row.maximum != nullptr;
    if (has_limits && row.type != CDMF_PROPERTY_INT && row.type != CDMF_PROPERTY_SIZE &&
        row.type != CDMF_PROPERTY_DURATION) {
      return add(at + ": minimum and maximum are for INT, SIZE and DURATION only");
    }
    if ((row.flags & CDMF_PROPERTY_ROLE) != 0 && row.type != CDMF_PROPERTY_BOOL) {
      add(at + ": CDMF_PROPERTY_ROLE is for BOOL only");
    }
    if (!check_limits(row, at)) return;
    if ((row.flags & CDMF_PROPERTY_REQUIRED) != 0 && row.default_text != nullptr) {
      add(at + ": is required, so default_text has no use");
    } else if (row.default_text == nullptr) {
      // The driver would be given a number that nobody chose.
      constexpr std::uint32_t kMayHaveNone = CDMF_PROPERTY_REQUIRED | CDMF_PROPERTY_ROLE;
      if ((row.flags & kMayHaveNone) == 0 && row.type != CDMF_PROPERTY_TEXT) add(at + ": default_text is NULL");
    } else {
      const ParsedValue value = check_value(row, row.default_text);
      if (!value.problem.empty()) add(at + ": default_text: " + value.problem);
    }
  }

  bool check_choices(const cdmf_property& row, const std::string& at) {
    if (row.choices == nullptr || row.choices[0] == nullptr) {
      add(at + ": choices is empty");
      return false;
    }
    std::set<std::string_view> words;
    for (std::size_t i = 0; row.choices[i] != nullptr; ++i) {
      const std::string_view word = row.choices[i];
      if (i == kChoiceCountMax) {
        add(at + ": choices has no end within " + std::to_string(kChoiceCountMax) + " words");
        return false;
      }
      if (word.empty() || !is_printable(word)) add(at + ": choices[" + std::to_string(i) + "] is no word");
      if (!words.insert(word).second) add(at + ": choices names \"" + std::string(word) + "\" twice");
    }
    return true;
  }

  bool check_limits(const cdmf_property& row, const std::string& at) {
    cdmf_property unlimited = row;
    unlimited.flags = 0;
    unlimited.minimum = nullptr;
    unlimited.maximum = nullptr;
    bool fine = true;
    std::int64_t numbers[2] = {};
    const std::pair<const char*, const char*> limits[] = {{"minimum", row.minimum}, {"maximum", row.maximum}};
    for (std::size_t i = 0; i < 2; ++i) {
      if (limits[i].second == nullptr) continue;
      const ParsedValue value = check_value(unlimited, limits[i].second);
      numbers[i] = value.number;
      if (value.problem.empty()) continue;
      add(at + ": " + limits[i].first + ": " + value.problem);
      fine = false;
    }
    if (fine && row.minimum != nullptr && row.maximum != nullptr && numbers[0] > numbers[1]) {
      add(at + ": minimum " + row.minimum + " is above maximum " + row.maximum);
      fine = false;
    }
    return fine;
  }

  const cdmf_plugin& plugin_;
  std::string_view expected_type_;
  std::uint32_t host_sanitizers_;
  Mismatches result_;
};

}  // namespace

std::string Mismatches::text() const {
  std::string text;
  for (const std::string& field : fields) text += (text.empty() ? "" : "; ") + field;
  return hint.empty() ? text : text + "; " + hint;
}

Mismatches find_mismatches(const cdmf_plugin& plugin, std::size_t readable_bytes, std::string_view expected_type,
                           std::uint32_t host_sanitizers) {
  return Checker(plugin, expected_type, host_sanitizers).run(readable_bytes);
}

}  // namespace cdmf::ipc::registry
