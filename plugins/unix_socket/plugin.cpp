// plugin.cpp: what libcdmf_unix_socket.so exports.
#include "ipc/plugin.h"
#include "unix_socket_driver.h"

CDMF_EXPORT_TRANSPORT(cdmf::ipc::unix_socket::UnixSocketDriver, cdmf::ipc::unix_socket::kDescription)
