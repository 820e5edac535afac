// View of one image on a canvas: fit, zoom, pan, invert, window and level, by mouse, touch and calls.
const WHOLE = { level: 127.5, width: 255 };
const MOST_ZOOM = 40;

export class View {
  constructor(canvas) {
    this.canvas = canvas;
    this.picture = null; // what was sent
    this.shown = null; // the same after window, level and inversion
    this.pointers = new Map();
    this.reset();
    new ResizeObserver(() => this.draw()).observe(canvas);
    this.listen();
  }

  // Takes a decoded picture. Place and brightness start afresh; inversion is kept, as a person keeps working with it.
  show(picture) {
    this.picture = picture;
    this.shown = null;
    this.reset();
  }

  reset() {
    Object.assign(this, WHOLE, { scale: 1, x: 0, y: 0 });
    this.isInverted ??= false;
    this.shown = null;
    this.draw();
  }

  invert() {
    this.isInverted = !this.isInverted;
    this.shown = null;
    this.draw();
  }

  // By shares of the whole range: a higher level is darker, a smaller width has more contrast.
  window(level, width) {
    this.level = Math.min(255, Math.max(0, this.level + 255 * level));
    this.width = Math.min(1020, Math.max(4, this.width * Math.exp(2 * width)));
    this.shown = null;
    this.draw();
  }

  zoom(factor, point = null) {
    const { width, height } = this.canvas.getBoundingClientRect();
    const [px, py] = point ? [point.x - width / 2, point.y - height / 2] : [0, 0];
    const scale = Math.min(MOST_ZOOM, Math.max(1, this.scale * factor));
    const ratio = scale / this.scale;
    Object.assign(this, { scale, x: px - (px - this.x) * ratio, y: py - (py - this.y) * ratio });
    this.draw();
  }

  // Fitted into the window, or one pixel of the image on one of the screen.
  toggleFit() {
    const full = 1 / (this.fitting() * devicePixelRatio);
    if (this.scale > 1.01 || full <= 1) Object.assign(this, { scale: 1, x: 0, y: 0 });
    else this.scale = Math.min(MOST_ZOOM, full);
    this.draw();
  }

  pan(dx, dy) {
    Object.assign(this, { x: this.x + dx, y: this.y + dy });
    this.draw();
  }

  // Screen pixels (CSS) per image pixel where the whole image is seen.
  fitting() {
    const { width, height } = this.canvas.getBoundingClientRect();
    return this.picture ? Math.min(width / this.picture.width, height / this.picture.height) : 1;
  }

  draw() {
    const box = this.canvas.getBoundingClientRect();
    const ratio = devicePixelRatio;
    const [width, height] = [Math.round(box.width * ratio), Math.round(box.height * ratio)];
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    const pen = this.canvas.getContext("2d");
    pen.clearRect(0, 0, width, height);
    if (!this.picture) return;
    this.shown ??= this.isInverted || this.level !== WHOLE.level || this.width !== WHOLE.width ? this.mapped() : this.picture;
    const size = this.fitting() * this.scale;
    const [w, h] = [this.picture.width * size, this.picture.height * size];
    this.x = clamped(this.x, w, box.width);
    this.y = clamped(this.y, h, box.height);
    pen.imageSmoothingEnabled = size * ratio < 3;
    pen.imageSmoothingQuality = "high";
    const [left, top] = [(box.width - w) / 2 + this.x, (box.height - h) / 2 + this.y];
    pen.drawImage(this.shown, left * ratio, top * ratio, w * ratio, h * ratio);
  }

  // The picture with every level through a table.
  mapped() {
    const { width, height } = this.picture;
    const made = new OffscreenCanvas(width, height);
    const pen = made.getContext("2d", { willReadFrequently: true });
    pen.drawImage(this.picture, 0, 0);
    const pixels = pen.getImageData(0, 0, width, height);
    const table = new Uint8ClampedArray(256);
    for (let value = 0; value < 256; value++) {
      const level = ((value - this.level) / this.width + 0.5) * 255;
      table[value] = this.isInverted ? 255 - level : level;
    }
    const data = pixels.data;
    for (let at = 0; at < data.length; at += 4) {
      data[at] = table[data[at]];
      data[at + 1] = table[data[at + 1]];
      data[at + 2] = table[data[at + 2]];
    }
    pen.putImageData(pixels, 0, 0);
    return made;
  }

  listen() {
    const at = (event) => {
      const box = this.canvas.getBoundingClientRect();
      return { x: event.clientX - box.left, y: event.clientY - box.top };
    };
    this.canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), at(event));
    }, { passive: false });
    this.canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    this.canvas.addEventListener("dblclick", () => this.toggleFit());
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, at(event));
    });
    this.canvas.addEventListener("pointermove", (event) => this.moved(event, at(event)));
    for (const end of ["pointerup", "pointercancel"])
      this.canvas.addEventListener(end, (event) => this.pointers.delete(event.pointerId));
  }

  // One pointer moves the image (with the right button or Shift: window and level); two zoom it.
  moved(event, point) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const [dx, dy] = [point.x - before.x, point.y - before.y];
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
    if (other) {
      const spread = (from) => Math.hypot(from.x - other.x, from.y - other.y) || 1;
      this.zoom(spread(point) / spread(before), { x: (point.x + other.x) / 2, y: (point.y + other.y) / 2 });
      this.pan(dx / 2, dy / 2);
    } else if (event.buttons & 2 || event.shiftKey) this.window(dy / 400, dx / 400);
    else this.pan(dx, dy);
    this.pointers.set(event.pointerId, point);
  }
}

// An image that is smaller than its room stays in the middle; a larger one covers it.
function clamped(offset, size, room) {
  const most = Math.max(0, (size - room) / 2);
  return Math.min(most, Math.max(-most, offset));
}
