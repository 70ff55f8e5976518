#pragma once
// Where every field of plugin ABI 1 stands, in bytes, on 64-bit machines. These numbers are what plugins that exist
// were compiled with. A number never changes; a new field at the end of a structure adds a line and changes that
// structure's SIZE, together with CDMF_ABI_MINOR.
// SIZE(structure, bytes)   FIELD(structure, field, offset)
#define CDMF_ABI_LAYOUT(SIZE, FIELD)             \
  SIZE(cdmf_error, 1024)                         \
  FIELD(cdmf_error, struct_size, 0)              \
  FIELD(cdmf_error, os_errno, 4)                 \
  FIELD(cdmf_error, message, 8)                  \
  SIZE(cdmf_loan, 32)                            \
  FIELD(cdmf_loan, memory, 0)                    \
  FIELD(cdmf_loan, size, 8)                      \
  FIELD(cdmf_loan, peer, 16)                     \
  FIELD(cdmf_loan, token, 24)                    \
  SIZE(cdmf_view, 56)                            \
  FIELD(cdmf_view, frame, 0)                     \
  FIELD(cdmf_view, size, 8)                      \
  FIELD(cdmf_view, peer, 16)                     \
  FIELD(cdmf_view, token, 24)                    \
  FIELD(cdmf_view, timestamp_us, 32)             \
  FIELD(cdmf_view, kind, 40)                     \
  FIELD(cdmf_view, reason, 44)                   \
  FIELD(cdmf_view, lost, 48)                     \
  SIZE(cdmf_property, 64)                        \
  FIELD(cdmf_property, struct_size, 0)           \
  FIELD(cdmf_property, type, 4)                  \
  FIELD(cdmf_property, flags, 8)                 \
  FIELD(cdmf_property, reserved, 12)             \
  FIELD(cdmf_property, name, 16)                 \
  FIELD(cdmf_property, default_text, 24)         \
  FIELD(cdmf_property, minimum, 32)              \
  FIELD(cdmf_property, maximum, 40)              \
  FIELD(cdmf_property, choices, 48)              \
  FIELD(cdmf_property, summary, 56)              \
  SIZE(cdmf_setting, 32)                         \
  FIELD(cdmf_setting, name, 0)                   \
  FIELD(cdmf_setting, text, 8)                   \
  FIELD(cdmf_setting, number, 16)                \
  FIELD(cdmf_setting, given, 24)                 \
  FIELD(cdmf_setting, reserved, 28)              \
  SIZE(cdmf_config, 48)                          \
  FIELD(cdmf_config, struct_size, 0)             \
  FIELD(cdmf_config, role, 4)                    \
  FIELD(cdmf_config, endpoint, 8)                \
  FIELD(cdmf_config, max_message_size, 16)       \
  FIELD(cdmf_config, frame_size_max, 24)         \
  FIELD(cdmf_config, settings, 32)               \
  FIELD(cdmf_config, setting_count, 40)          \
  SIZE(cdmf_host, 40)                            \
  FIELD(cdmf_host, struct_size, 0)               \
  FIELD(cdmf_host, abi_major, 4)                 \
  FIELD(cdmf_host, abi_minor, 6)                 \
  FIELD(cdmf_host, context, 8)                   \
  FIELD(cdmf_host, log_level, 16)                \
  FIELD(cdmf_host, log, 24)                      \
  FIELD(cdmf_host, get_extension, 32)            \
  SIZE(cdmf_info, 48)                            \
  FIELD(cdmf_info, struct_size, 0)               \
  FIELD(cdmf_info, reserved, 4)                  \
  FIELD(cdmf_info, capabilities, 8)              \
  FIELD(cdmf_info, frame_size_max, 16)           \
  FIELD(cdmf_info, buffer_bytes, 24)             \
  FIELD(cdmf_info, address, 32)                  \
  FIELD(cdmf_info, detail, 40)                   \
  SIZE(cdmf_driver_ops, 168)                     \
  FIELD(cdmf_driver_ops, struct_size, 0)         \
  FIELD(cdmf_driver_ops, reserved, 4)            \
  FIELD(cdmf_driver_ops, open, 8)                \
  FIELD(cdmf_driver_ops, attach, 16)             \
  FIELD(cdmf_driver_ops, claim, 24)              \
  FIELD(cdmf_driver_ops, commit, 32)             \
  FIELD(cdmf_driver_ops, abort, 40)              \
  FIELD(cdmf_driver_ops, flush, 48)              \
  FIELD(cdmf_driver_ops, await_space, 56)        \
  FIELD(cdmf_driver_ops, receive_burst, 64)      \
  FIELD(cdmf_driver_ops, release_burst, 72)      \
  FIELD(cdmf_driver_ops, await_messages, 80)     \
  FIELD(cdmf_driver_ops, hold, 88)               \
  FIELD(cdmf_driver_ops, unhold, 96)             \
  FIELD(cdmf_driver_ops, poll_fd, 104)           \
  FIELD(cdmf_driver_ops, arm, 112)               \
  FIELD(cdmf_driver_ops, interrupt, 120)         \
  FIELD(cdmf_driver_ops, disconnect, 128)        \
  FIELD(cdmf_driver_ops, close, 136)             \
  FIELD(cdmf_driver_ops, destroy, 144)           \
  FIELD(cdmf_driver_ops, describe, 152)          \
  FIELD(cdmf_driver_ops, get_extension, 160)     \
  SIZE(cdmf_driver, 16)                          \
  FIELD(cdmf_driver, self, 0)                    \
  FIELD(cdmf_driver, ops, 8)                     \
  SIZE(cdmf_build_info, 32)                      \
  FIELD(cdmf_build_info, struct_size, 0)         \
  FIELD(cdmf_build_info, flags, 4)               \
  FIELD(cdmf_build_info, compiler, 8)            \
  FIELD(cdmf_build_info, language, 16)           \
  FIELD(cdmf_build_info, standard_library, 24)   \
  SIZE(cdmf_plugin, 112)                         \
  FIELD(cdmf_plugin, struct_size, 0)             \
  FIELD(cdmf_plugin, magic, 4)                   \
  FIELD(cdmf_plugin, abi_major, 8)               \
  FIELD(cdmf_plugin, abi_minor, 10)              \
  FIELD(cdmf_plugin, min_host_minor, 12)         \
  FIELD(cdmf_plugin, reserved, 14)               \
  FIELD(cdmf_plugin, build, 16)                  \
  FIELD(cdmf_plugin, type, 24)                   \
  FIELD(cdmf_plugin, version, 32)                \
  FIELD(cdmf_plugin, vendor, 40)                 \
  FIELD(cdmf_plugin, license, 48)                \
  FIELD(cdmf_plugin, summary, 56)                \
  FIELD(cdmf_plugin, capabilities, 64)           \
  FIELD(cdmf_plugin, max_message_size_limit, 72) \
  FIELD(cdmf_plugin, properties, 80)             \
  FIELD(cdmf_plugin, property_count, 88)         \
  FIELD(cdmf_plugin, create, 96)                 \
  FIELD(cdmf_plugin, get_extension, 104)
