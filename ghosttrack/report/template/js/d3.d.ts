// What is used of D3, which a page has as a global.
declare namespace d3 {
  type Value<D, R> = R | ((this: Element, datum: D, index: number) => R);

  interface Selection<D = any, P = any> {
    append(name: string): Selection<D, P>;
    attr(name: string, value: Value<D, string | number | null>): Selection<D, P>;
    call(draw: (selection: any) => unknown): Selection<D, P>;
    data<T>(values: readonly T[] | ((datum: P) => readonly T[])): Selection<T, P>;
    filter(fits: (datum: D) => boolean): Selection<D, P>;
    join(name: string): Selection<D, P>;
    node(): SVGElement | null;
    nodes(): SVGElement[];
    remove(): Selection<D, P>;
    selectAll(name: string): Selection<any, D>;
    text(value: Value<D, string>): Selection<D, P>;
  }
  interface Shape<D> {
    (points: readonly D[]): string | null;
    x(place: (point: D, index: number) => number): this;
    y(place: number | ((point: D, index: number) => number)): this;
    y0(place: number | ((point: D, index: number) => number)): this;
    y1(place: number | ((point: D, index: number) => number)): this;
    curve(way: object): this;
    defined(is: (point: D) => boolean): this;
  }
  interface Linear {
    (value: number): number;
    clamp(is: boolean): this;
  }
  interface Ordinal {
    (name: string): string;
    domain(): string[];
    unknown(value: string): this;
  }
  interface Axis {
    (selection: any): void;
    tickFormat(say: (value: number) => string): this;
    tickSize(length: number): this;
    tickValues(values: number[]): this;
  }
  const curveBumpX: object;
  const curveStepAfter: object;
  function area<D>(): Shape<D>;
  function axisTop(scale: Linear): Axis;
  function create(name: string): Selection;
  function max(values: Iterable<number>): number | undefined;
  function pairs<T>(values: readonly T[]): [T, T][];
  function range(start: number, stop: number, step?: number): number[];
  function scaleLinear(domain: number[], range: number[]): Linear;
  function scaleOrdinal(domain: string[], range: readonly string[]): Ordinal;
}
