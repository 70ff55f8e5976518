#include "cli/plugin_config.h"

#include <utility>
#include <vector>

#include "cli/command_error.h"
#include "ipc/result.h"

namespace cdmf::ipc::cli {

PluginConfig::PluginConfig(const cdmf_plugin& plugin, const TransportConfig& config, const std::string& where)
    : config_(config) {
  std::vector<std::string> problems;
  for (const cdmf_property& common : common_properties()) {
    const auto found = config_.properties.find(common.name);
    if (found == config_.properties.end()) continue;
    if (auto problem = set_common_property(config_, common, found->second); !problem.empty()) {
      problems.push_back(std::string(common.name) + ": " + problem);
    }
    config_.properties.erase(found);
  }
  settings_ = make_settings(plugin, config_.properties);
  problems.insert(problems.end(), settings_.problems.begin(), settings_.problems.end());
  if (config_.endpoint.empty()) problems.emplace_back("endpoint: required");
  if (config_.max_message_size == 0 || config_.max_message_size > plugin.max_message_size_limit) {
    problems.push_back("max_message_size: " + format_size(config_.max_message_size) + " is not between 1 and " +
                       format_size(plugin.max_message_size_limit) + ", the limit of " + plugin.type);
  }
  if (!problems.empty()) {
    std::string text = where;
    for (std::size_t i = 0; i < problems.size(); ++i) text += (i == 0 ? ": " : "; ") + problems[i];
    throw CommandError(text);
  }
  raw_.struct_size = sizeof raw_;
  raw_.role = CDMF_ROLE_SERVER;
  raw_.endpoint = config_.endpoint.c_str();
  raw_.max_message_size = config_.max_message_size;
  raw_.frame_size_max = config_.max_message_size + CDMF_FRAME_OVERHEAD_MAX;
  raw_.settings = settings_.rows.data();
  raw_.setting_count = settings_.rows.size();
}

std::optional<std::int64_t> PluginConfig::number(std::string_view name) const {
  for (const cdmf_setting& row : settings_.rows) {
    if (name == row.name) return row.number;
  }
  return std::nullopt;
}

void PluginError::require(cdmf_status status, const std::string& what) const {
  if (status == CDMF_OK) return;
  const std::string text = text_of(raw_.message);
  throw CommandError(what + ": " + to_string(static_cast<TransportError>(status)) + (text.empty() ? "" : ": ") + text);
}

}  // namespace cdmf::ipc::cli
