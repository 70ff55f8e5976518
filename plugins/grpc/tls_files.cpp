// tls_files.cpp: what is wrong with the files of tls_*, in words. gRPC itself would only fail each handshake.
#include <fcntl.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <memory>

#include "options.h"

namespace cdmf::ipc::grpc_transport {
namespace {

struct Closer {
  void operator()(std::FILE* file) const { std::fclose(file); }
  void operator()(X509* certificate) const { X509_free(certificate); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
template <typename T>
using Owned = std::unique_ptr<T, Closer>;

cdmf_status open_file(const char* option, const std::string& path, Owned<std::FILE>& file, ErrorText& error) {
  file.reset(std::fopen(path.c_str(), "re"));
  if (file != nullptr) return CDMF_OK;
  return error.fail(errno == EACCES ? CDMF_PERMISSION_DENIED : CDMF_INVALID_CONFIG, errno, option, " \"", path,
                    "\" cannot be read");
}

/// The first certificate of the file, valid today.
cdmf_status read_certificate(const char* option, const std::string& path, Owned<X509>& certificate, ErrorText& error) {
  Owned<std::FILE> file;
  if (const auto status = open_file(option, path, file, error); status != CDMF_OK) return status;
  certificate.reset(PEM_read_X509(file.get(), nullptr, nullptr, nullptr));
  if (certificate == nullptr) {
    return error.fail(CDMF_INVALID_CONFIG, 0, option, " \"", path, "\" holds no certificate in PEM form");
  }
  if (X509_cmp_current_time(X509_get0_notAfter(certificate.get())) < 0) {
    return error.fail(CDMF_INVALID_CONFIG, 0, option, " \"", path, "\": the certificate has expired; renew it");
  }
  if (X509_cmp_current_time(X509_get0_notBefore(certificate.get())) > 0) {
    return error.fail(CDMF_INVALID_CONFIG, 0, option, " \"", path,
                      "\": the certificate is not valid yet; check this machine's clock");
  }
  return CDMF_OK;
}

/// A key with a passphrase would make OpenSSL ask on the terminal.
int no_passphrase(char* /*buffer*/, int /*size*/, int /*writing*/, void* /*context*/) { return -1; }

}  // namespace

cdmf_status check_tls_files(const Options& options, ErrorText& error) {
  if (options.insecure) return CDMF_OK;
  Owned<X509> authority;
  Owned<X509> certificate;
  if (const auto status = read_certificate("tls_ca", options.tls_ca, authority, error); status != CDMF_OK)
    return status;
  if (const auto status = read_certificate("tls_cert", options.tls_cert, certificate, error); status != CDMF_OK) {
    return status;
  }
  Owned<std::FILE> file;
  if (const auto status = open_file("tls_key", options.tls_key, file, error); status != CDMF_OK) return status;
  struct stat found {};
  if (fstat(fileno(file.get()), &found) != 0 || (found.st_mode & 0077) != 0 ||
      (found.st_uid != geteuid() && found.st_uid != 0)) {
    return error.fail(CDMF_PERMISSION_DENIED, 0, "tls_key \"", options.tls_key,
                      "\" must belong to this user or root and be nobody else's to read; chmod 0600");
  }
  const Owned<EVP_PKEY> key(PEM_read_PrivateKey(file.get(), nullptr, no_passphrase, nullptr));
  if (key == nullptr) {
    return error.fail(CDMF_INVALID_CONFIG, 0, "tls_key \"", options.tls_key,
                      "\" holds no private key in PEM form without a passphrase");
  }
  if (X509_check_private_key(certificate.get(), key.get()) != 1) {
    return error.fail(CDMF_INVALID_CONFIG, 0, "tls_key \"", options.tls_key, "\" is not the key of tls_cert \"",
                      options.tls_cert, '"');
  }
  return CDMF_OK;
}

}  // namespace cdmf::ipc::grpc_transport
