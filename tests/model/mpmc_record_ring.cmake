# The record ring of many producers and consumers: the protocol under Spin, its code under Relacy. See the two sources.
function(cdmf_mpmc_model name expected)
  add_test(NAME model.shm.mpmc_record_ring.${name}
           COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/run_spin.sh ${CMAKE_CURRENT_SOURCE_DIR}/mpmc_record_ring.pml ${expected} ${ARGN})
  set_tests_properties(model.shm.mpmc_record_ring.${name} PROPERTIES LABELS "model;slow" TIMEOUT 900 SKIP_RETURN_CODE 77)
endfunction()

cdmf_mpmc_model(2_producers_2_deaths clean -DPRODUCERS=2 -DCONSUMERS=1 -DDEATHS=2)
cdmf_mpmc_model(2_consumers_2_deaths clean -DPRODUCERS=1 -DCONSUMERS=2 -DDEATHS=2 -DOPS=2 -DSLOTS=1)
cdmf_mpmc_model(batches clean -DPRODUCERS=2 -DCONSUMERS=1 -DDEATHS=2 -DBATCH=2 -DSLOTS=4)
cdmf_mpmc_model(batches_wrap clean -DPRODUCERS=2 -DCONSUMERS=1 -DDEATHS=1 -DBATCH=2 -DSLOTS=2)
# 36 million states, 2.5 GB and a minute or two.
cdmf_mpmc_model(2_and_2 clean -DPRODUCERS=2 -DCONSUMERS=2 -DDEATHS=1)
# One part of the rule removed: each needs the search that shows it.
foreach(defect 1 2 3 4 6 7 8 9 10 11)
  cdmf_mpmc_model(broken_${defect} error -DBROKEN=${defect})
endforeach()
cdmf_mpmc_model(broken_5 error -DBROKEN=5 -DPRODUCERS=2 -DCONSUMERS=2 -DSLOTS=1 -DDEATHS=1)
cdmf_mpmc_model(broken_12 error -DBROKEN=12 -DPRODUCERS=1 -DCONSUMERS=2 -DSLOTS=1 -DDEATHS=1 -DOPS=2)

# Relacy runs the code itself, so a sanitizer has nothing to add.
if(NOT CDMF_SANITIZE)
  find_path(CDMF_RELACY relacy/relacy.hpp)
  mark_as_advanced(CDMF_RELACY)
  if(CDMF_RELACY)
    add_executable(mpmc_record_relacy mpmc_record_relacy.cpp)
    cdmf_use_flags(mpmc_record_relacy)
    target_link_libraries(mpmc_record_relacy PRIVATE cdmf_shm_core)
    target_include_directories(mpmc_record_relacy PRIVATE $<TARGET_PROPERTY:cdmf_shm_core,INCLUDE_DIRECTORIES>)
    target_compile_options(mpmc_record_relacy PRIVATE -w)  # What Relacy's macros make of our lines is not ours.
    add_test(NAME model.shm.mpmc_record_ring.relacy COMMAND mpmc_record_relacy)
  else()
    add_test(NAME model.shm.mpmc_record_ring.relacy COMMAND sh -c "echo Relacy is not installed: apt-get install relacy-dev; exit 77")
  endif()
  set_tests_properties(model.shm.mpmc_record_ring.relacy PROPERTIES LABELS "model;slow" TIMEOUT 900 SKIP_RETURN_CODE 77)
endif()
