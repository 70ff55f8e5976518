#include "registry/compatibility.h"

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <set>
#include <utility>

#include "ipc/property.h"
#include "registry/search_path.h"

namespace cdmf::ipc::registry {
namespace {

std::string in_hex(std::uint32_t number) {
  char text[16];
  std::snprintf(text, sizeof text, "0x%08x", number);
  return text;
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
      return std::move(result_);
    }
    if (check_identity()) {
      check_texts();
      check_build();
      check_functions();
      check_properties();
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
      if (text == nullptr) add(std::string(field) + " is NULL");
    }
    if (plugin_.type != nullptr && plugin_.type != expected_type_) {
      add("type: plugin \"" + std::string(plugin_.type) + "\", file name \"" + std::string(expected_type_) + '"');
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
    if (row.summary == nullptr || *row.summary == '\0') add(at + ": summary is empty");
    const auto is_reserved = [&row](const cdmf_property& common) { return std::string_view(common.name) == row.name; };
    const auto common = common_properties();
    if (std::any_of(common.begin(), common.end(), is_reserved) || std::string_view(row.name) == "type" ||
        std::string_view(row.name) == "endpoint") {
      add(at + ": the name is taken by a key that every transport has");
    }
    if (row.type == CDMF_PROPERTY_CHOICE && (row.choices == nullptr || row.choices[0] == nullptr)) {
      return add(at + ": choices is empty");
    }
    if ((row.flags & CDMF_PROPERTY_ROLE) != 0 && row.type != CDMF_PROPERTY_BOOL) {
      add(at + ": CDMF_PROPERTY_ROLE is for BOOL only");
    }
    if (!check_limits(row, at)) return;
    if ((row.flags & CDMF_PROPERTY_REQUIRED) != 0 && row.default_text != nullptr) {
      add(at + ": is required, so default_text has no use");
    } else if (row.default_text != nullptr) {
      const ParsedValue value = check_value(row, row.default_text);
      if (!value.problem.empty()) add(at + ": default_text: " + value.problem);
    }
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

std::string sanitizer_names(std::uint32_t flags) {
  constexpr std::pair<std::uint32_t, const char*> kNames[] = {{CDMF_BUILD_ASAN, "AddressSanitizer"},
                                                              {CDMF_BUILD_TSAN, "ThreadSanitizer"},
                                                              {CDMF_BUILD_MSAN, "MemorySanitizer"}};
  std::string text;
  for (const auto& [flag, name] : kNames) {
    if ((flags & flag) == 0) continue;
    flags &= ~flag;
    text += (text.empty() ? "" : ", ") + std::string(name);
  }
  if (flags != 0) text += (text.empty() ? "" : ", ") + std::string("unknown ") + in_hex(flags);
  return text.empty() ? "none" : text;
}

Mismatches find_mismatches(const cdmf_plugin& plugin, std::size_t readable_bytes, std::string_view expected_type,
                           std::uint32_t host_sanitizers) {
  return Checker(plugin, expected_type, host_sanitizers).run(readable_bytes);
}

}  // namespace cdmf::ipc::registry
