"""A GPU without a GPU: Triton compiles the kernels as for a real one, and their PTX is executed on the CPU.

`ptx` reads what Triton has compiled, `machine` executes and counts it, by the `operations` of instructions, their
`arithmetic` and the `memory` that they access, and `launches` sends it the package's launches.
Triton's interpreter runs the kernels' Python; this runs their instructions, with the layouts, wide accesses, shuffles
and barriers that the compiler chose. It refuses what has no defined result on a GPU, such as races between the programs
of a launch, or between the warps of a program.
"""
