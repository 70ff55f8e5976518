// plugin.cpp: what libcdmf_grpc.so exports.
#include "ipc/plugin.h"
#include "grpc_driver.h"

CDMF_EXPORT_TRANSPORT(cdmf::ipc::grpc_transport::GrpcDriver, cdmf::ipc::grpc_transport::kDescription)
