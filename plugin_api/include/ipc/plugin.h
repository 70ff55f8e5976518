#pragma once
// ipc/plugin.h: turns a class derived from Driver into a plugin: function table, exception barrier, exported symbol.
//
//   constexpr cdmf_property kProperties[] = {
//       size_property("queue_size", "1MiB", "4KiB", "1GiB", "Bytes that wait at most for one peer."),
//   };
//   constexpr TransportDescription kDescription{.type = "acme", .summary = "…", .properties = kProperties, …};
//   CDMF_EXPORT_TRANSPORT(AcmeDriver, kDescription)     // at global scope, once, in the plugin's entry file
#include <concepts>
#include <cstdio>
#include <exception>
#include <new>
#include <span>
#include <string_view>
#include <utility>

#include "ipc/driver.h"
#include "ipc/plugin_abi.h"
#include "ipc/put_abi.h"

namespace cdmf::ipc {

// ---- Property rows. Limits are texts in the type's syntax, inclusive; nullptr: none. --------------------------------
// Names, types and syntax: CDMF_PROPERTY_… in ipc/plugin_abi.h.

constexpr cdmf_property bool_property(const char* name, const char* default_text, const char* summary,
                                      std::uint32_t flags = 0) {
  return {sizeof(cdmf_property), CDMF_PROPERTY_BOOL, flags, 0, name, default_text, nullptr, nullptr, nullptr, summary};
}
constexpr cdmf_property int_property(const char* name, const char* default_text, const char* minimum,
                                     const char* maximum, const char* summary, std::uint32_t flags = 0) {
  return {sizeof(cdmf_property), CDMF_PROPERTY_INT, flags, 0, name, default_text, minimum, maximum, nullptr, summary};
}
constexpr cdmf_property size_property(const char* name, const char* default_text, const char* minimum,
                                      const char* maximum, const char* summary, std::uint32_t flags = 0) {
  return {sizeof(cdmf_property), CDMF_PROPERTY_SIZE, flags, 0, name, default_text, minimum, maximum, nullptr, summary};
}
constexpr cdmf_property duration_property(const char* name, const char* default_text, const char* minimum,
                                          const char* maximum, const char* summary, std::uint32_t flags = 0) {
  return {
      sizeof(cdmf_property), CDMF_PROPERTY_DURATION, flags, 0, name, default_text, minimum, maximum, nullptr, summary};
}
/// choices: a constexpr array of words that ends with nullptr and lives as long as the plugin.
constexpr cdmf_property choice_property(const char* name, const char* default_text, const char* const* choices,
                                        const char* summary, std::uint32_t flags = 0) {
  return {
      sizeof(cdmf_property), CDMF_PROPERTY_CHOICE, flags, 0, name, default_text, nullptr, nullptr, choices, summary};
}
constexpr cdmf_property text_property(const char* name, const char* default_text, const char* summary,
                                      std::uint32_t flags = 0) {
  return {sizeof(cdmf_property), CDMF_PROPERTY_TEXT, flags, 0, name, default_text, nullptr, nullptr, nullptr, summary};
}

namespace sdk {
inline const void* no_extension(const char*) noexcept { return nullptr; }
}  // namespace sdk

/// What a plugin says of itself. All texts are static.
struct TransportDescription {
  const char* type = "";  ///< the word after `type:` in YAML, [a-z][a-z0-9_]*; the file is libcdmf_<type>.so
  const char* version = "1.0.0";
  const char* vendor = "";
  const char* license = "";  ///< SPDX
  const char* summary = "";
  std::uint64_t capabilities = 0;  ///< CDMF_CAP_… with default options
  std::uint64_t max_message_size_limit = std::uint64_t{1} << 30;
  std::span<const cdmf_property> properties{};
  /// What the plugin offers besides drivers, by name, such as ipc/sizes_abi.h. Must not throw.
  const void* (*get_extension)(const char* name) noexcept = &sdk::no_extension;
};

namespace sdk {

/// A driver that sends in one call: ipc/put_abi.h.
template <typename D>
concept CanPut = requires(D& driver, cdmf_peer peer, const cdmf_pieces& frame) {
  { driver.put(peer, frame, true) } -> std::same_as<cdmf_status>;
};

/// … and many at once.
template <typename D>
concept CanPutBurst = CanPut<D> && requires(D& driver, cdmf_peer peer, std::span<const cdmf_pieces> frames) {
  { driver.put_burst(peer, frames, true) }
  noexcept->std::same_as<std::size_t>;
};

/// The C functions of one driver class. Calls are qualified (D::claim), hence direct and inlined: the boundary costs
/// the one indirect call of the host.
template <typename D>
class DriverTable {
 public:
  static cdmf_status create(const cdmf_host* host, const cdmf_config* config, cdmf_driver* out,
                            cdmf_error* error) noexcept {
    return guarded(PluginHost(host), error, "its constructor", [&]() -> cdmf_status {
      out->self = new Instance(*config, host);
      out->ops = &kOps;
      return CDMF_OK;
    });
  }

 private:
  /// A driver, and where to tell of what it throws.
  struct Instance {
    Instance(const cdmf_config& config, const cdmf_host* services)
        : driver(DriverConfig(config), PluginHost(services)), host(services) {}
    D driver;
    PluginHost host;
  };
  static D& driver(void* self) noexcept { return static_cast<Instance*>(self)->driver; }
  static const PluginHost& host_of(void* self) noexcept { return static_cast<Instance*>(self)->host; }

  /// The exception barrier. Calls with an error text put it there, the others into the host's log.
  template <typename Call>
  static cdmf_status guarded(const PluginHost& host, cdmf_error* error, const char* what, Call&& call) noexcept {
    try {
      return call();
    } catch (const std::bad_alloc&) {
      return tell(host, error, CDMF_RESOURCE_EXHAUSTED, what, "out of memory");
    } catch (const ConfigError& problem) {
      return tell(host, error, CDMF_INVALID_CONFIG, nullptr, problem.what());
    } catch (const std::exception& problem) {
      return tell(host, error, CDMF_INTERNAL_ERROR, what, problem.what());
    } catch (...) {
      return tell(host, error, CDMF_INTERNAL_ERROR, what, "an exception that is no std::exception");
    }
  }
  template <typename Call>
  static cdmf_status guarded(void* self, const char* what, Call&& call) noexcept {
    return guarded(host_of(self), nullptr, what, std::forward<Call>(call));
  }
  /// For functions without a status: the driver's state after an exception is its own matter.
  template <typename Call>
  static void guarded_void(void* self, const char* what, Call&& call) noexcept {
    guarded(self, what, [&]() -> cdmf_status {
      call();
      return CDMF_OK;
    });
  }
  static cdmf_status tell(const PluginHost& host, cdmf_error* error, cdmf_status status, const char* what,
                          const char* text) noexcept {
    char sentence[sizeof error->message];
    if (what == nullptr) {
      std::snprintf(sentence, sizeof sentence, "%s", text);
    } else {
      std::snprintf(sentence, sizeof sentence, "the plugin threw in %s: %s", what, text);
    }
    if (error != nullptr) {
      std::snprintf(error->message, sizeof error->message, "%s", sentence);
    } else {
      host.log(CDMF_LOG_ERROR, static_cast<const char*>(sentence));
    }
    return status;
  }

  static cdmf_status open(void* self, cdmf_error* error) noexcept {
    ErrorText text(error);
    return guarded(host_of(self), error, "open", [&] { return driver(self).D::open(text); });
  }
  static cdmf_status attach(void* self, std::uint64_t deadline, cdmf_peer* peer, cdmf_error* error) noexcept {
    ErrorText text(error);
    return guarded(host_of(self), error, "attach", [&] { return driver(self).D::attach(deadline, *peer, text); });
  }
  static cdmf_status claim(void* self, cdmf_peer peer, std::size_t size, cdmf_loan* loan) noexcept {
    return guarded(self, "claim", [&] { return driver(self).D::claim(peer, size, *loan); });
  }
  static cdmf_status commit(void* self, const cdmf_loan* loan, std::size_t size, std::uint32_t flush) noexcept {
    return guarded(self, "commit", [&] { return driver(self).D::commit(*loan, size, flush != 0); });
  }
  static void abort(void* self, const cdmf_loan* loan) noexcept {
    guarded_void(self, "abort", [&] { driver(self).D::abort(*loan); });
  }
  static cdmf_status flush(void* self, cdmf_peer peer, std::uint64_t deadline) noexcept {
    return guarded(self, "flush", [&] { return driver(self).D::flush(peer, deadline); });
  }
  static cdmf_status await_space(void* self, cdmf_peer peer, std::size_t size, std::uint64_t deadline) noexcept {
    return guarded(self, "await_space", [&] { return driver(self).D::await_space(peer, size, deadline); });
  }
  static std::size_t receive_burst(void* self, cdmf_view* views, std::size_t capacity) noexcept {
    std::size_t count = 0;
    guarded_void(self, "receive_burst", [&] { count = driver(self).D::receive_burst(views, capacity); });
    return count;
  }
  static void release_burst(void* self) noexcept {
    guarded_void(self, "release_burst", [&] { driver(self).D::release_burst(); });
  }
  static cdmf_status await_messages(void* self, std::uint64_t deadline) noexcept {
    return guarded(self, "await_messages", [&] { return driver(self).D::await_messages(deadline); });
  }
  static cdmf_status hold(void* self, cdmf_peer peer, std::uint64_t token, std::uint64_t* held) noexcept {
    return guarded(self, "hold", [&] { return driver(self).D::hold(peer, token, *held); });
  }
  static void unhold(void* self, std::uint64_t held) noexcept {
    guarded_void(self, "unhold", [&] { driver(self).D::unhold(held); });
  }
  static int poll_fd(void* self) noexcept {
    int fd = -1;
    guarded_void(self, "poll_fd", [&] { fd = driver(self).D::poll_fd(); });
    return fd;
  }
  static cdmf_arm_result arm(void* self) noexcept {
    cdmf_arm_result result = CDMF_READY;
    guarded_void(self, "arm", [&] { result = driver(self).D::arm(); });
    return result;
  }
  static void interrupt(void* self) noexcept {
    guarded_void(self, "interrupt", [&] { driver(self).D::interrupt(); });
  }
  static cdmf_status disconnect(void* self, cdmf_peer peer, cdmf_status reason) noexcept {
    return guarded(self, "disconnect", [&] { return driver(self).D::disconnect(peer, reason); });
  }
  static void close(void* self) noexcept {
    guarded_void(self, "close", [&] { driver(self).D::close(); });
  }
  static void destroy(void* self) noexcept { delete static_cast<Instance*>(self); }
  static void describe(void* self, cdmf_info* info) noexcept {
    guarded_void(self, "describe", [&] { driver(self).D::describe(*info); });
  }
  static cdmf_status put(void* self, cdmf_peer peer, const cdmf_pieces* frame,
                         std::uint32_t flush) noexcept requires CanPut<D> {
    if constexpr (noexcept(driver(self).D::put(peer, *frame, flush != 0))) {
      return driver(self).D::put(peer, *frame, flush != 0);
    } else {
      return guarded(self, "put", [&] { return driver(self).D::put(peer, *frame, flush != 0); });
    }
  }
  static std::size_t put_burst(void* self, cdmf_peer peer, const cdmf_pieces* frames, std::size_t count,
                               std::uint32_t flush) noexcept requires CanPutBurst<D> {
    return driver(self).D::put_burst(peer, std::span(frames, count), flush != 0);
  }
  static constexpr cdmf_put put_table() noexcept requires CanPut<D> {
    cdmf_put table{sizeof(cdmf_put), 0, put, nullptr};
    if constexpr (CanPutBurst<D>) table.put_burst = put_burst;
    return table;
  }
  static const void* get_extension(void* self, const char* name) noexcept {
    if constexpr (CanPut<D>) {
      static constexpr cdmf_put kPut = put_table();
      if (std::string_view(name) == CDMF_PUT_EXTENSION) return &kPut;
    }
    const void* extension = nullptr;
    guarded_void(self, "get_extension", [&] { extension = driver(self).D::get_extension(name); });
    return extension;
  }

  static constexpr cdmf_driver_ops kOps{sizeof(cdmf_driver_ops),
                                        0,
                                        open,
                                        attach,
                                        claim,
                                        commit,
                                        abort,
                                        flush,
                                        await_space,
                                        receive_burst,
                                        release_burst,
                                        await_messages,
                                        hold,
                                        unhold,
                                        poll_fd,
                                        arm,
                                        interrupt,
                                        disconnect,
                                        close,
                                        destroy,
                                        describe,
                                        get_extension};
};

constexpr std::uint32_t build_flags() {
  std::uint32_t flags = 0;
#if defined(__SANITIZE_ADDRESS__)
  flags |= CDMF_BUILD_ASAN;
#endif
#if defined(__SANITIZE_THREAD__)
  flags |= CDMF_BUILD_TSAN;
#endif
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
  flags |= CDMF_BUILD_ASAN;
#endif
#if __has_feature(thread_sanitizer)
  flags |= CDMF_BUILD_TSAN;
#endif
#if __has_feature(memory_sanitizer)
  flags |= CDMF_BUILD_MSAN;
#endif
#endif
  return flags;
}

#define CDMF_SDK_TEXT_(x) #x
#define CDMF_SDK_TEXT(x) CDMF_SDK_TEXT_(x)
inline constexpr cdmf_build_info kBuildInfo {
  sizeof(cdmf_build_info), build_flags(),
#if defined(__clang__)
      "Clang " CDMF_SDK_TEXT(__clang_major__) "." CDMF_SDK_TEXT(__clang_minor__),
#elif defined(__GNUC__)
      "GNU " CDMF_SDK_TEXT(__GNUC__) "." CDMF_SDK_TEXT(__GNUC_MINOR__),
#else
      "unknown",
#endif
      "C++20",
#if defined(_LIBCPP_VERSION)
      "libc++ " CDMF_SDK_TEXT(_LIBCPP_VERSION)
#elif defined(__GLIBCXX__)
      "libstdc++ " CDMF_SDK_TEXT(__GLIBCXX__)
#else
      "unknown"
#endif
};
#undef CDMF_SDK_TEXT
#undef CDMF_SDK_TEXT_

}  // namespace sdk

/// Makes a driver, as cdmf_plugin::create.
using DriverFactory = decltype(cdmf_plugin::create);
/// That of one class.
template <typename D>
inline constexpr DriverFactory create_driver = &sdk::DriverTable<D>::create;

/// The descriptor of a plugin; constant, so that it can be read without running code of the plugin. `create` may choose
/// between classes by the config: return create_driver<One>(host, config, driver, error).
constexpr cdmf_plugin make_plugin(const TransportDescription& description, DriverFactory create) {
  return {sizeof(cdmf_plugin),
          CDMF_PLUGIN_MAGIC,
          CDMF_ABI_MAJOR,
          CDMF_ABI_MINOR,
          0,
          0,
          &sdk::kBuildInfo,
          description.type,
          description.version,
          description.vendor,
          description.license,
          description.summary,
          description.capabilities,
          description.max_message_size_limit,
          description.properties.data(),
          description.properties.size(),
          create,
          description.get_extension};
}
/// Of a plugin with one driver class.
template <typename D>
constexpr cdmf_plugin make_plugin(const TransportDescription& description) {
  return make_plugin(description, create_driver<D>);
}

}  // namespace cdmf::ipc

/// For a plugin with several driver classes: descriptor is a make_plugin(…).
#define CDMF_EXPORT_PLUGIN(descriptor) \
  extern "C" __attribute__((visibility("default"), used)) constinit const cdmf_plugin cdmf_plugin_v1 = descriptor;

#define CDMF_EXPORT_TRANSPORT(DriverClass, description) \
  CDMF_EXPORT_PLUGIN(::cdmf::ipc::make_plugin<DriverClass>(description))
