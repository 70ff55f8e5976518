#pragma once
// config/suggest.h: the known word that a user most likely meant, for messages about unknown keys and types.
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace cdmf::ipc::config {

/// The word of `known` nearest to `word`, if one is near enough to be a likely slip:
/// first one that is equal but for case, '-' and '_'; else the one with the fewest slips (a character more, less or
/// other, or two neighbours swapped), at most a third of the length of `word`, but always one. The first of equals
/// wins. The result is one of `known` and lives as long. Words over 64 bytes have no neighbour: nobody types them.
std::optional<std::string_view> nearest_word(std::string_view word, std::span<const std::string_view> known);

/// "did you mean 'x'?", or "known here: a, b, c" when nothing is near; empty when `known` is empty.
std::string suggestion(std::string_view word, std::span<const std::string_view> known);

}  // namespace cdmf::ipc::config
