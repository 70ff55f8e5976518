#include "credentials.h"

#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>

#include <algorithm>

namespace cdmf::ipc::grpc_transport {
namespace {

namespace tls = grpc::experimental;

std::shared_ptr<tls::FileWatcherCertificateProvider> files_of(const Options& options) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(options.tls_refresh).count();
  return std::make_shared<tls::FileWatcherCertificateProvider>(
      options.tls_key, options.tls_cert, options.tls_ca, static_cast<unsigned>(std::max<std::int64_t>(1, seconds)));
}

void watch(tls::TlsCredentialsOptions& tls_options) {
  tls_options.watch_root_certs();
  tls_options.watch_identity_key_cert_pairs();
}

}  // namespace

std::shared_ptr<grpc::ServerCredentials> server_credentials(const Options& options) {
  if (options.insecure) return grpc::InsecureServerCredentials();
  tls::TlsServerCredentialsOptions tls_options(files_of(options));
  watch(tls_options);
  tls_options.set_cert_request_type(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  // A client is known by its certificate; from where it comes says nothing.
  tls_options.set_check_call_host(false);
  return tls::TlsServerCredentials(tls_options);
}

std::shared_ptr<grpc::ChannelCredentials> client_credentials(const Options& options) {
  if (options.insecure) return grpc::InsecureChannelCredentials();
  tls::TlsChannelCredentialsOptions tls_options;
  tls_options.set_certificate_provider(files_of(options));
  watch(tls_options);
  tls_options.set_verify_server_certs(true);
  return tls::TlsCredentials(tls_options);
}

}  // namespace cdmf::ipc::grpc_transport
