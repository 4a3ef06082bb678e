"""Pictures of a textured triangle mesh from any number of cameras at once, by ray casting with Warp."""

import os

import numpy as np
from torch import Tensor

try:
    import warp as wp
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("the sample capture needs warp: pip install -e '.[sample]'", name="warp") from error


def _start_quietly() -> None:
    """Start Warp without its banner, and without its warning if there is no GPU, which nothing here needs."""
    wp.config.log_level = wp.LOG_ERROR
    # The warning comes from native code, straight to the process's standard error.
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        wp.init()
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


_start_quietly()

FAR = 100.0
# Where depths of neighbouring pixels differ by more than this, in metres, there is an edge to smooth.
EDGE = 0.03
GAMMA = 2.2
KEY_LIGHT, KEY_COLOUR = wp.vec3(-0.45, -0.55, 0.70), wp.vec3(0.62, 0.60, 0.56)
FILL_LIGHT, FILL_COLOUR = wp.vec3(0.75, 0.55, 0.35), wp.vec3(0.20, 0.22, 0.25)
SKY, GROUND = wp.vec3(0.46, 0.47, 0.48), wp.vec3(0.26, 0.25, 0.24)


class Surface:
    """What the frames of one person share.

    Args:
        faces: [F, 3] int32 indices of vertices.
        coordinates: [F, 3, 2] float32, positions of the faces' corners in the texture, in 0..1.
        texture: [T, T, 3] float32 linear light in 0..1; columns follow the first coordinate, rows the second.
    """

    def __init__(self, faces: np.ndarray, coordinates: np.ndarray, texture: np.ndarray):
        self.faces = wp.array(faces.reshape(-1), dtype=wp.int32, device="cpu")
        self.coordinates = wp.array(coordinates.reshape(-1, 2), dtype=wp.vec2, device="cpu")
        self.texture = wp.array(texture, dtype=wp.vec3, device="cpu")


class Rig:
    """What the pictures of one ring of cameras share.

    Args:
        eyes: [V, 3] float32, positions of the cameras in the world, z up.
        rays: [V, H, W, 3] float32, unit directions through the pixels' centres in the world.
        backdrop: [V, H, W, 3] uint8, what is seen where there is no person.
    """

    def __init__(self, eyes: np.ndarray, rays: np.ndarray, backdrop: np.ndarray):
        self.eyes = wp.array(eyes, dtype=wp.vec3, device="cpu")
        self.rays = wp.array(rays, dtype=wp.vec3, device="cpu")
        self.backdrop = wp.array(backdrop, dtype=wp.vec3ub, device="cpu")


def photograph(
    vertices: Tensor, normals: Tensor, boxes: np.ndarray, surface: Surface, rig: Rig
) -> tuple[np.ndarray, np.ndarray]:
    """All cameras' pictures of one frame.

    Args:
        vertices, normals: [N, 3] float32 in the world.
        boxes: [V, 4] int32, the windows (left, top, right, bottom), ends excluded, that contain the person.
        surface: of the person.
        rig: the cameras.

    Returns:
        The images [V, H, W, 3] uint8 and the masks [V, H, W] bool.
    """
    normals = wp.from_torch(normals.contiguous(), dtype=wp.vec3)
    mesh = wp.Mesh(wp.from_torch(vertices.contiguous(), dtype=wp.vec3), surface.faces)
    shape = rig.rays.shape
    depth = wp.zeros(shape, dtype=float, device="cpu")
    light = wp.zeros(shape, dtype=wp.vec3, device="cpu")
    image = wp.clone(rig.backdrop)
    mask = wp.zeros(shape, dtype=wp.uint8, device="cpu")
    windows = wp.array(boxes, dtype=wp.vec4i, device="cpu")
    dim = (shape[0], int((boxes[:, 3] - boxes[:, 1]).max()), int((boxes[:, 2] - boxes[:, 0]).max()))
    scene = [mesh.id, rig.eyes, rig.rays, windows, normals, surface.coordinates, surface.texture]
    wp.launch(_cast, dim, [*scene, depth, light], device="cpu")
    wp.launch(_develop, dim, [*scene, depth, light, image, mask], device="cpu")
    return image.numpy(), mask.numpy().astype(bool)


def unwrap(coordinates: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The nearest point of the surface for every texel, so that colours reach past the seams.

    Args:
        coordinates: [F, 3, 2] float32 as in `Surface`.
        size: texels along a side.

    Returns:
        Faces [T, T] int32, and the weights of their corners [T, T, 3] float32.
    """
    corners = np.pad(coordinates.reshape(-1, 2), ((0, 0), (0, 1)))
    indices = np.arange(len(corners), dtype=np.int32)
    mesh = wp.Mesh(wp.array(corners, dtype=wp.vec3, device="cpu"), wp.array(indices, dtype=wp.int32, device="cpu"))
    faces = wp.zeros((size, size), dtype=int, device="cpu")
    weights = wp.zeros((size, size), dtype=wp.vec3, device="cpu")
    wp.launch(_nearest, (size, size), [mesh.id, float(size), faces, weights], device="cpu")
    return faces.numpy(), weights.numpy()


@wp.kernel(enable_backward=False)
def _nearest(mesh: wp.uint64, size: float, faces: wp.array2d(dtype=int), weights: wp.array2d(dtype=wp.vec3)):
    row, column = wp.tid()
    point = wp.vec3((float(column) + 0.5) / size, (float(row) + 0.5) / size, 0.0)
    query = wp.mesh_query_point_no_sign(mesh, point, 10.0)
    faces[row, column] = query.face
    weights[row, column] = wp.vec3(query.u, query.v, 1.0 - query.u - query.v)


@wp.func
def _texel(texture: wp.array2d(dtype=wp.vec3), place: wp.vec2):
    """Bilinear look-up."""
    size = texture.shape[0]
    x = wp.clamp(place[0] * float(size) - 0.5, 0.0, float(size - 1))
    y = wp.clamp(place[1] * float(size) - 0.5, 0.0, float(size - 1))
    j = wp.min(int(x), size - 2)
    i = wp.min(int(y), size - 2)
    right, down = x - float(j), y - float(i)
    top = wp.lerp(texture[i, j], texture[i, j + 1], right)
    bottom = wp.lerp(texture[i + 1, j], texture[i + 1, j + 1], right)
    return wp.lerp(top, bottom, down)


@wp.func
def _look(
    mesh: wp.uint64,
    eye: wp.vec3,
    ray: wp.vec3,
    normals: wp.array(dtype=wp.vec3),
    coordinates: wp.array(dtype=wp.vec2),
    texture: wp.array2d(dtype=wp.vec3),
):
    """Linear light along one ray, and the depth, which is 0 if the ray hits nothing."""
    query = wp.mesh_query_ray(mesh, eye, ray, FAR)
    if not query.result:
        return wp.vec4(0.0, 0.0, 0.0, 0.0)
    corner = 3 * query.face
    a, b, c = query.u, query.v, 1.0 - query.u - query.v
    place = a * coordinates[corner] + b * coordinates[corner + 1] + c * coordinates[corner + 2]
    normal = a * normals[wp.mesh_get_index(mesh, corner)]
    normal += b * normals[wp.mesh_get_index(mesh, corner + 1)]
    normal += c * normals[wp.mesh_get_index(mesh, corner + 2)]
    normal = wp.normalize(normal)
    light = wp.lerp(GROUND, SKY, 0.5 + 0.5 * normal[2])
    light += wp.max(0.0, wp.dot(normal, wp.normalize(KEY_LIGHT))) * KEY_COLOUR
    light += wp.max(0.0, wp.dot(normal, wp.normalize(FILL_LIGHT))) * FILL_COLOUR
    colour = wp.cw_mul(_texel(texture, place), light)
    return wp.vec4(colour[0], colour[1], colour[2], query.t)


@wp.kernel(enable_backward=False)
def _cast(
    mesh: wp.uint64,
    eyes: wp.array(dtype=wp.vec3),
    rays: wp.array3d(dtype=wp.vec3),
    windows: wp.array(dtype=wp.vec4i),
    normals: wp.array(dtype=wp.vec3),
    coordinates: wp.array(dtype=wp.vec2),
    texture: wp.array2d(dtype=wp.vec3),
    depth: wp.array3d(dtype=float),
    light: wp.array3d(dtype=wp.vec3),
):
    """One ray through every pixel's centre."""
    view, i, j = wp.tid()
    y, x = windows[view][1] + i, windows[view][0] + j
    if y >= windows[view][3] or x >= windows[view][2]:
        return
    seen = _look(mesh, eyes[view], rays[view, y, x], normals, coordinates, texture)
    depth[view, y, x] = seen[3]
    light[view, y, x] = wp.vec3(seen[0], seen[1], seen[2])


@wp.kernel(enable_backward=False)
def _develop(
    mesh: wp.uint64,
    eyes: wp.array(dtype=wp.vec3),
    rays: wp.array3d(dtype=wp.vec3),
    windows: wp.array(dtype=wp.vec4i),
    normals: wp.array(dtype=wp.vec3),
    coordinates: wp.array(dtype=wp.vec2),
    texture: wp.array2d(dtype=wp.vec3),
    depth: wp.array3d(dtype=float),
    light: wp.array3d(dtype=wp.vec3),
    image: wp.array3d(dtype=wp.vec3ub),
    mask: wp.array3d(dtype=wp.uint8),
):
    """Turn light into pixels over the backdrop; at edges from four rays instead of one."""
    view, i, j = wp.tid()
    y, x = windows[view][1] + i, windows[view][0] + j
    if y >= windows[view][3] or x >= windows[view][2]:
        return
    last_y, last_x = rays.shape[1] - 1, rays.shape[2] - 1
    nearest, farthest = float(FAR), float(0.0)  # noqa: UP018
    for k in range(9):
        d = depth[view, wp.clamp(y + k // 3 - 1, 0, last_y), wp.clamp(x + k % 3 - 1, 0, last_x)]
        nearest = wp.min(nearest, d)
        farthest = wp.max(farthest, d)
    if farthest == 0.0:
        return
    total, coverage = wp.vec3(0.0, 0.0, 0.0), float(0.0)  # noqa: UP018
    if farthest - nearest > EDGE:
        # Rays within the pixel, from the differences to neighbours, on a side where there is one.
        side_x, side_y = wp.where(x < last_x, 1, -1), wp.where(y < last_y, 1, -1)
        ray = rays[view, y, x]
        across, down = rays[view, y, x + side_x] - ray, rays[view, y + side_y, x] - ray
        for k in range(4):
            step = (float(k % 2) - 0.5) * 0.5 * across + (float(k // 2) - 0.5) * 0.5 * down
            seen = _look(mesh, eyes[view], wp.normalize(ray + step), normals, coordinates, texture)
            if seen[3] > 0.0:
                total += wp.vec3(seen[0], seen[1], seen[2])
                coverage += 0.25
        if coverage == 0.0:
            return
        total /= 4.0 * coverage
    else:
        total += light[view, y, x]
        coverage += 1.0
    if coverage >= 0.5:
        mask[view, y, x] = wp.uint8(1)
    behind = image[view, y, x]
    pixel = wp.vec3ub()
    for c in range(3):
        value = 255.0 * wp.pow(wp.clamp(total[c], 0.0, 1.0), 1.0 / GAMMA)
        pixel[c] = wp.uint8(coverage * value + (1.0 - coverage) * float(behind[c]) + 0.5)
    image[view, y, x] = pixel
