#pragma once
// credentials.h: gRPC's credentials from the tls_ options, or none with insecure.
#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>

#include <memory>

#include "options.h"

namespace cdmf::ipc::grpc_transport {

/// Both ends show a certificate and check the other's, with TLS 1.2 or 1.3. The files are read again every tls_refresh.
[[nodiscard]] std::shared_ptr<grpc::ServerCredentials> server_credentials(const Options& options);
[[nodiscard]] std::shared_ptr<grpc::ChannelCredentials> client_credentials(const Options& options);

}  // namespace cdmf::ipc::grpc_transport
