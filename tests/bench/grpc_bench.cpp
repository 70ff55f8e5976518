// bench_grpc: the grpc transport beside a plain gRPC stream, in the same rounds, over Unix sockets, in plain text and
// with mutual TLS from the same files.
//   bench_grpc [--rounds N] [--only WORD] [--json]
// The plain stream is what generated code makes of `rpc Stream(stream bytes) returns (stream bytes)`: the synchronous
// API, one Write and one Read per message. CDMF_MAKE_CERTIFICATES names tests/support/make_certificates.sh when the
// program is not run from the project's folder.
#include <grpcpp/grpcpp.h>
#include <grpcpp/impl/codegen/method_handler.h>
#include <grpcpp/impl/codegen/rpc_service_method.h>
#include <grpcpp/impl/codegen/service_type.h>
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>
#include <unistd.h>

#include <cstdlib>
#include <exception>
#include <filesystem>

#include "arguments.h"
#include "ends.h"

namespace {

using namespace cdmf::bench;
using cdmf::ipc::Role;
using cdmf::ipc::cli::CpuPair;

constexpr std::chrono::milliseconds kTripBudget{150};
constexpr std::chrono::milliseconds kStreamBudget{400};
constexpr const char* kMethod = "/bench.Plain/Stream";

/// A folder with certificates, for this run.
class Certificates {
 public:
  Certificates() : folder_(std::filesystem::temp_directory_path() / ("cdmf-bench-" + std::to_string(getpid()))) {
    const char* const named = std::getenv("CDMF_MAKE_CERTIFICATES");
    const std::string script = named != nullptr ? named : "tests/support/make_certificates.sh";
    if (std::system(("'" + script + "' '" + folder_.string() + "'").c_str()) != 0) {
      throw std::runtime_error(script + " failed; CDMF_MAKE_CERTIFICATES says where it is");
    }
  }
  ~Certificates() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }

 private:
  std::filesystem::path folder_;
};

struct Setting {
  const Certificates* files;
  bool tls;
};

namespace tls = grpc::experimental;

std::shared_ptr<tls::FileWatcherCertificateProvider> files_of(const Setting& setting, const std::string& side) {
  return std::make_shared<tls::FileWatcherCertificateProvider>(
      setting.files->path(side + ".key"), setting.files->path(side + ".pem"), setting.files->path("ca.pem"), 10);
}

// ---- Plain gRPC -----------------------------------------------------------------------------------------------------

grpc::ByteBuffer buffer_of(std::string_view bytes) {
  const grpc::Slice slice(bytes.data(), bytes.size());
  return {&slice, 1};
}

std::uint64_t check(const grpc::ByteBuffer& buffer) {
  grpc::Slice slice;
  if (!buffer.DumpToSingleSlice(&slice).ok()) throw std::runtime_error("no slice");
  const char* const bytes = reinterpret_cast<const char*>(slice.begin());
  NumberedPayload::check_rest(bytes, slice.size());
  return NumberedPayload::number_of(bytes);
}

class PlainService final : public grpc::Service {
 public:
  using Stream = grpc::ServerReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>;
  PlainService(bool echoes, std::size_t size) {
    AddMethod(new grpc::internal::RpcServiceMethod(
        kMethod, grpc::internal::RpcMethod::BIDI_STREAMING,
        new grpc::internal::BidiStreamingHandler<PlainService, grpc::ByteBuffer, grpc::ByteBuffer>(
            [echoes, size](PlainService*, grpc::ServerContext*, Stream* stream) {
              echoes ? echo(*stream, size) : sink(*stream);
              return grpc::Status::OK;
            },
            this)));
  }

 private:
  static void echo(Stream& stream, std::size_t size) {
    NumberedPayload payload(size);
    for (grpc::ByteBuffer message; stream.Read(&message);) stream.Write(buffer_of(payload.with(check(message))));
  }
  static void sink(Stream& stream) {
    NumberedPayload answer(64);
    std::uint64_t expected = 0;
    for (grpc::ByteBuffer message; stream.Read(&message);) {
      const std::uint64_t number = check(message);
      if (number == kLast) {
        stream.Write(buffer_of(answer.with(std::exchange(expected, 0))));
      } else if (number != expected++) {
        return;  // The other side sees the stream end.
      }
    }
  }
};

std::string plain_address() { return "unix:/tmp/cdmf-bench-plain-" + std::to_string(getppid()); }

void serve_plain(const Setting& setting, bool echoes, std::size_t size, const std::function<void()>& ready) {
  std::shared_ptr<grpc::ServerCredentials> credentials = grpc::InsecureServerCredentials();
  if (setting.tls) {
    tls::TlsServerCredentialsOptions options(files_of(setting, "server"));
    options.watch_root_certs();
    options.watch_identity_key_cert_pairs();
    options.set_cert_request_type(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
    options.set_check_call_host(false);
    credentials = tls::TlsServerCredentials(options);
  }
  PlainService service(echoes, size);
  grpc::ServerBuilder builder;
  builder.AddListeningPort(plain_address(), credentials);
  builder.RegisterService(&service);
  const auto server = builder.BuildAndStart();
  if (server == nullptr) throw std::runtime_error("the plain server does not start");
  ready();
  server->Wait();
}

class PlainEnd {
 public:
  explicit PlainEnd(const Setting& setting) {
    std::shared_ptr<grpc::ChannelCredentials> credentials = grpc::InsecureChannelCredentials();
    grpc::ChannelArguments arguments;
    if (setting.tls) {
      tls::TlsChannelCredentialsOptions options;
      options.set_certificate_provider(files_of(setting, "client"));
      options.watch_root_certs();
      options.watch_identity_key_cert_pairs();
      options.set_verify_server_certs(true);
      credentials = tls::TlsCredentials(options);
      arguments.SetSslTargetNameOverride("localhost");
    }
    channel_ = grpc::CreateCustomChannel(plain_address(), credentials, arguments);
    const grpc::internal::RpcMethod method(kMethod, grpc::internal::RpcMethod::BIDI_STREAMING, channel_);
    stream_.reset(grpc::internal::ClientReaderWriterFactory<grpc::ByteBuffer, grpc::ByteBuffer>::Create(
        channel_.get(), method, &context_));
  }
  ~PlainEnd() {
    stream_->WritesDone();
    context_.TryCancel();
    (void)stream_->Finish();
  }
  void send(NumberedPayload& payload, std::uint64_t number) {
    if (!stream_->Write(buffer_of(payload.with(number)))) throw std::runtime_error("the plain stream ended");
  }
  std::uint64_t receive() {
    grpc::ByteBuffer message;
    if (!stream_->Read(&message)) throw std::runtime_error("the plain stream ended");
    return check(message);
  }
  Measured round_trips(std::size_t size) {
    NumberedPayload payload(size);
    std::uint64_t number = 0;
    const auto once = [&] {
      send(payload, ++number);
      if (receive() != number) throw std::runtime_error("another message came back");
    };
    const auto trips = cdmf::ipc::cli::measure_round_trips(once, kTripBudget, 8);
    return {trips.untimed_ns, cdmf::ipc::cli::summarize(trips.timed)};
  }
  Measured stream(std::size_t size) {
    NumberedPayload payload(size);
    const auto begin = std::chrono::steady_clock::now();
    std::uint64_t number = 0;
    while (std::chrono::steady_clock::now() - begin < kStreamBudget) {
      for (int i = 0; i < 32; ++i) send(payload, number++);
    }
    send(payload, kLast);
    if (receive() != number) throw std::runtime_error("not everything arrived");
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    return {static_cast<double>(number) / took.count()};
  }

 private:
  std::shared_ptr<grpc::Channel> channel_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>> stream_;
};

// ---- Ours -----------------------------------------------------------------------------------------------------------

std::string yaml(const Setting& setting, bool server) {
  std::string options = "insecure: true";
  if (setting.tls) {
    const std::string side = server ? "server" : "client";
    options = "tls_ca: " + setting.files->path("ca.pem") + ", tls_cert: " + setting.files->path(side + ".pem") +
              ", tls_key: " + setting.files->path(side + ".key");
  }
  return "version: 1\ntransports:\n  main: { type: grpc, endpoint: /cdmf_bench_" + std::to_string(getppid()) +
         ", max_message_size: 64KiB, grpc: { " + options + " } }\n";
}

Measured ours(const CpuPair& cpus, const Setting& setting, bool trips, std::size_t size) {
  return measure_beside({[&](const auto& ready) {
                          End end(yaml(setting, true), "main", Role::SERVER);
                          ready();
                          trips ? end.echo(size) : end.sink();
                        }},
                        cpus, [&] {
                          End end(yaml(setting, false), "main", Role::CLIENT);
                          return trips ? end.round_trips(size, kTripBudget, 8) : end.stream(size, kStreamBudget);
                        });
}

Measured plain(const CpuPair& cpus, const Setting& setting, bool trips, std::size_t size) {
  return measure_beside({[&](const auto& ready) { serve_plain(setting, trips, size, ready); }}, cpus, [&] {
    PlainEnd end(setting);
    return trips ? end.round_trips(size) : end.stream(size);
  });
}

}  // namespace

int main(int argc, char** argv) {
  const auto arguments = read_arguments(argc, argv);
  if (!arguments) return 2;
  const CpuPair cpus = cdmf::ipc::cli::choose_cpu_pair();
  if (!cpus.pinned) {
    std::fprintf(stderr, "bench_grpc: needs two CPUs; on one, figures would be those of the scheduler\n");
    return 1;
  }
  try {
    const Certificates files;
    Rounds rounds(cpus);
    for (const bool tls : {true, false}) {
      const Setting setting{&files, tls};
      const auto add = [&](const std::string& what, bool trips, std::size_t size) {
        const std::string name = what + "/" + std::to_string(size) + (tls ? "B/tls" : "B/plain_text");
        const Unit unit = trips ? Unit::round_trip_ns : Unit::messages_per_second;
        rounds.add({"grpc/" + name, unit, [=] { return ours(cpus, setting, trips, size); }, {}, name});
        rounds.add(
            {"a plain gRPC stream/" + name, unit, [=] { return plain(cpus, setting, trips, size); }, {}, name, true});
      };
      add("stream", false, 64);
      add("stream", false, 65536);
      add("ping_pong", true, 64);
    }
    rounds.keep_only(arguments->only);
    if (rounds.empty()) throw std::runtime_error("nothing has '" + arguments->only + "' in its name");
    rounds.run(arguments->rounds);
    std::fputs((arguments->json ? rounds.json("grpc") : rounds.table()).c_str(), stdout);
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "bench_grpc: %s\n", problem.what());
    return 1;
  }
  return 0;
}
